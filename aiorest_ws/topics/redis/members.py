"""Scripts for the subscribers of topics.

There is a hash of members for each topic, and a set of memberships and a lease for each process.
"""

from enum import IntEnum

from aiorest_ws.topics.redis.scripts import HEAD, NOW, ON_BUS, TOPIC_SCRIPTS, Script

__all__ = (
    "ALL",
    "ENTER",
    "ENTERED",
    "LEAVE",
    "MEMBERS",
    "RENEW",
    "Lease",
)

# How many members of a dead process one script removes, so that others do not wait for longer.
REMOVED_AT_ONCE = 1000

# How long Redis remembers that a process was taken for dead.
TOMB_SECONDS = 3600

# KEYS: members, process, bus, bus-meta, stream, meta. ARGV: process, member, info, whether it is
# announced, topic, a new id of the bus, a nonce, whether others do not know of it yet,
# milliseconds of the meta. A topic with subscribers keeps its epoch.
ENTER = Script(
    NOW
    + ON_BUS
    + HEAD
    + """
local field = ARGV[1] .. '/' .. ARGV[2]
redis.call('SADD', KEYS[2], ARGV[5] .. ' ' .. ARGV[2])
made(KEYS[6], KEYS[5], bus_id(KEYS[3], KEYS[4], ARGV[6]))
extend(KEYS[6], ARGV[9])
if redis.call('HSET', KEYS[1], field, ARGV[4] .. ARGV[3]) == 1 and ARGV[4] == '1'
    and ARGV[8] == '1' then
    on_bus(KEYS[3], KEYS[4], ARGV[6], 'join', ARGV[5], '', 0, ARGV[2], ARGV[7], ARGV[3])
end
return 1
"""
)

# A topic without messages and subscribers is deleted.
_LEFT = """
local function left(members, meta, index, bus, bus_meta, process, member, topic, new_id, nonce)
    local field = process .. '/' .. member
    local told = redis.call('HGET', members, field)
    redis.call('HDEL', members, field)
    redis.call('SREM', index, topic .. ' ' .. member)
    if told and string.sub(told, 1, 1) == '1' then
        on_bus(bus, bus_meta, new_id, 'leave', topic, '', 0, member, nonce, '')
    end
    if redis.call('HGET', meta, 'offset') == '0' and redis.call('EXISTS', members) == 0 then
        redis.call('DEL', meta)
    end
end
"""

# KEYS: members, process, bus, bus-meta, meta. ARGV: process, member, topic, a new id, a nonce.
LEAVE = Script(
    ON_BUS
    + _LEFT
    + """
left(KEYS[1], KEYS[5], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
return 1
"""
)

# KEYS: members, processes. Members of processes whose lease has expired do not count.
MEMBERS = Script(
    NOW
    + """
local living, found = {}, {}
for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now, '+inf')) do
    living[process] = true
end
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
    local process, member = string.match(all[index], '^([^/]*)/(.*)$')
    if living[process] then
        found[#found + 1] = member
        found[#found + 1] = string.sub(all[index + 1], 2)
    end
end
return found
"""
)

# KEYS: process. Returns its memberships.
ENTERED = Script("return redis.call('SMEMBERS', KEYS[1])")


class Lease(IntEnum):
    """The state of the lease of a process before it was renewed."""

    REMOVED = -1  # it had expired, and the members of the process were removed
    UNKNOWN = 0  # Redis has lost it
    EXPIRED = 1
    VALID = 2


# KEYS: processes, bus, bus-meta. ARGV: prefix, process, milliseconds of its lease (0: it ends),
# a new id of the bus, a nonce, whether to remove the members of dead processes. Returns the state
# of the lease, and the number of memberships.
RENEW = Script(
    NOW
    + ON_BUS
    + _LEFT
    + """
local function clear(process)
    local index = ARGV[1] .. ':process:' .. process
    for _, entry in ipairs(redis.call('SRANDMEMBER', index, REMOVED)) do
        local topic, member = string.match(entry, '^([^ ]*) (.*)$')
        local nonce = ARGV[5] .. member
        left(ARGV[1] .. ':members:' .. topic, ARGV[1] .. ':meta:' .. topic, index, KEYS[2],
            KEYS[3], process, member, topic, ARGV[4], nonce)
    end
    if redis.call('EXISTS', index) == 1 then
        redis.call('ZADD', KEYS[1], 0, process)
        return false
    end
    redis.call('ZREM', KEYS[1], process)
    return true
end
""".replace("REMOVED", str(REMOVED_AT_ONCE))
    + f"""
-- DEL is first, so that Redis does not refuse this at `maxmemory`.
local was_removed = redis.call('DEL', ARGV[1] .. ':tomb:' .. ARGV[2]) == 1
local state, score = {Lease.UNKNOWN:d}, redis.call('ZSCORE', KEYS[1], ARGV[2])
if score then
    state = tonumber(score) > now and {Lease.VALID:d} or {Lease.EXPIRED:d}
elseif was_removed then
    state = {Lease.REMOVED:d}
end
if ARGV[3] == '0' then
    clear(ARGV[2])
else
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
end
if ARGV[6] == '1' then
    for _, process in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 10)) do
        if clear(process) then
            redis.call('SET', ARGV[1] .. ':tomb:' .. process, 1, 'EX', {TOMB_SECONDS})
        end
    end
end
return {{state, redis.call('SCARD', ARGV[1] .. ':process:' .. ARGV[2])}}
"""
)

ALL = (*TOPIC_SCRIPTS, ENTER, LEAVE, ENTERED, MEMBERS, RENEW)

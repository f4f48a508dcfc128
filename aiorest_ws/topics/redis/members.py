"""Who subscribes to what, as Redis knows it, each step an atomic one.

There is a hash for each topic; a set of what it has entered, and a lease, for each process.
"""

from aiorest_ws.topics.redis.scripts import NOW, ON_BUS, TOPIC_SCRIPTS, Script

__all__ = (
    "ALL",
    "BURIED",
    "ENTER",
    "ENTERED",
    "FORGOTTEN",
    "HELD",
    "LEAVE",
    "MEMBERS",
    "OVER",
    "RENEW",
)

# Members of a dead process that are cleared away at once; the others have to wait for no longer.
CLEARED_AT_ONCE = 1000

# How long a process that was taken for dead can learn of it.
TOMB_SECONDS = 3600

# KEYS: members, process, bus, bus-meta. ARGV: process, member, info, whether it is announced,
# topic, a new id of the bus, a nonce, whether it is news to those who hear of it.
ENTER = Script(
    ON_BUS
    + """
local field = ARGV[1] .. '/' .. ARGV[2]
redis.call('SADD', KEYS[2], ARGV[5] .. ' ' .. ARGV[2])
if redis.call('HSET', KEYS[1], field, ARGV[4] .. ARGV[3]) == 1 and ARGV[4] == '1'
    and ARGV[8] == '1' then
    on_bus(KEYS[3], KEYS[4], ARGV[6], 'join', ARGV[5], '', 0, ARGV[2], ARGV[7], ARGV[3])
end
return 1
"""
)

_LEFT = """
local function left(members, index, bus, bus_meta, process, member, topic, new_id, nonce)
    local field = process .. '/' .. member
    local told = redis.call('HGET', members, field)
    redis.call('HDEL', members, field)
    redis.call('SREM', index, topic .. ' ' .. member)
    if told and string.sub(told, 1, 1) == '1' then
        on_bus(bus, bus_meta, new_id, 'leave', topic, '', 0, member, nonce, '')
    end
end
"""

# KEYS: members, process, bus, bus-meta, meta. ARGV: process, member, topic, a new id, a nonce. A
# topic without messages and subscribers is forgotten: a client may ask for any number of names.
LEAVE = Script(
    ON_BUS
    + _LEFT
    + """
left(KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
if redis.call('HGET', KEYS[5], 'offset') == '0' and redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('DEL', KEYS[5])
end
return 1
"""
)

# KEYS: members, processes. A member of a process whose lease is over is none.
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

# KEYS: process. Returns what it has entered.
ENTERED = Script("return redis.call('SMEMBERS', KEYS[1])")

# What has become of a lease: others were told that it is over, Redis knows nothing of it, it was
# over and nobody has told, it holds.
BURIED, FORGOTTEN, OVER, HELD = -1, 0, 1, 2

# KEYS: processes, bus, bus-meta. ARGV: prefix, process, milliseconds of its lease (0: it ends),
# a new id of the bus, a nonce, whether to clear up after the dead. Returns what has become of the
# lease, and how many it has entered.
RENEW = Script(
    NOW
    + ON_BUS
    + _LEFT
    + """
local function clear(process)
    local index = ARGV[1] .. ':process:' .. process
    for _, entry in ipairs(redis.call('SRANDMEMBER', index, CLEARED)) do
        local topic, member = string.match(entry, '^([^ ]*) (.*)$')
        local nonce = ARGV[5] .. member
        left(ARGV[1] .. ':members:' .. topic, index, KEYS[2], KEYS[3], process, member, topic,
            ARGV[4], nonce)
    end
    if redis.call('EXISTS', index) == 1 then
        redis.call('ZADD', KEYS[1], 0, process)
        return false
    end
    redis.call('ZREM', KEYS[1], process)
    return true
end
""".replace("CLEARED", str(CLEARED_AT_ONCE))
    + f"""
local state, score = {FORGOTTEN}, redis.call('ZSCORE', KEYS[1], ARGV[2])
if score then
    state = tonumber(score) > now and {HELD} or {OVER}
elseif redis.call('DEL', ARGV[1] .. ':tomb:' .. ARGV[2]) == 1 then
    state = {BURIED}
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

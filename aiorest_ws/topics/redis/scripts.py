"""The scripts for topics; each runs atomically.

A topic has a stream, whose IDs are offsets, and a hash with its epoch. All processes read another
stream, the bus: it has all published messages, and the subscribers that join and leave, numbered
without a gap.

At `maxmemory`, Redis refuses a script if the first command that writes could add data, and lets
everything pass after that. So a script that adds data writes with HSET, SADD or the like before it
deletes anything, and a script that cleans up begins with DEL or HDEL.
"""

import hashlib

__all__ = (
    "ADMIT",
    "HEAD",
    "JOIN",
    "LOOK",
    "NOW",
    "ON_BUS",
    "PUBLISH",
    "REPLAY",
    "SETTLE",
    "TOPIC_SCRIPTS",
    "Keys",
    "Script",
)

# The length of the bus, for processes that lag behind.
BUS_ENTRIES = 10_000
BUS_BYTES = 64 * 1024 * 1024
BUS_SECONDS = 3600

# How long a script that was sent on a lost connection may still arrive.
VOID_SECONDS = 600

# How long new topics get the same epoch. The hash of a topic with messages is kept for longer, so
# that no topic gets the epoch that it had before.
EPOCH_MILLISECONDS = 1800 * 1000


class Keys:
    """The names of the keys of one application."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.bus = f"{prefix}:bus"
        self.bus_meta = f"{prefix}:bus-meta"
        self.processes = f"{prefix}:processes"
        self.patterns = f"{prefix}:patterns"

    def stream(self, topic: str) -> str:
        """Return the key of the stream with the history of a topic."""
        return f"{self.prefix}:topic:{topic}"

    def meta(self, topic: str) -> str:
        """Return the key of the hash with the epoch, the offset and the bytes of a topic."""
        return f"{self.prefix}:meta:{topic}"

    def members(self, topic: str) -> str:
        """Return the key of the hash with the subscribers of a topic."""
        return f"{self.prefix}:members:{topic}"

    def process(self, process: str) -> str:
        """Return the key of the set with the memberships of a process."""
        return f"{self.prefix}:process:{process}"

    def void(self, nonce: str) -> str:
        """Return the key that prevents a publication from being made."""
        return f"{self.prefix}:void:{nonce}"

    def rate(self, key: str) -> str:
        """Return the key of the hash with what is left of an allowance."""
        return f"{self.prefix}:rate:{key}"


class Script:
    """A Lua script and its hash for EVALSHA."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# The id of the bus; epochs are valid with one bus only.
_BUS_ID = """
local function bus_id(bus, bus_meta, new_id)
    local id = redis.call('HGET', bus_meta, 'id')
    if not id then
        id = new_id
        redis.call('HSET', bus_meta, 'id', id, 'n', 0, 'bytes', 0)
        redis.call('DEL', bus)
    end
    return id
end
"""

# `data` is the last field of an entry. A length is subtracted from 0, because -0 is "-0" in Lua,
# which Redis refuses.
ON_BUS = (
    _BUS_ID
    + f"""
local function on_bus(bus, bus_meta, new_id, kind, topic, epoch, offset, key, nonce, data)
    bus_id(bus, bus_meta, new_id)
    if redis.call('EXISTS', bus) == 0 then
        redis.call('HSET', bus_meta, 'bytes', 0)
    end
    local n = redis.call('HINCRBY', bus_meta, 'n', 1)
    redis.call('XADD', bus, n .. '-0', 'kind', kind, 'topic', topic, 'epoch', epoch,
        'offset', offset, 'key', key, 'nonce', nonce, 'data', data)
    local bytes = redis.call('HINCRBY', bus_meta, 'bytes', #data)
    local length = redis.call('XLEN', bus)
    while length > 1 and (length > {BUS_ENTRIES} or bytes > {BUS_BYTES}) do
        local first = redis.call('XRANGE', bus, '-', '+', 'COUNT', 1)[1]
        redis.call('XDEL', bus, first[1])
        bytes = redis.call('HINCRBY', bus_meta, 'bytes', 0 - #first[2][14])
        length = length - 1
    end
    redis.call('EXPIRE', bus, {BUS_SECONDS})
end
"""
)

# The epoch and the offset of a topic; both start anew with a new bus. Reading them writes nothing:
# clients may ask for any number of names. Needs NOW.
HEAD = f"""
local function head(meta, id)
    local known = redis.call('HMGET', meta, 'epoch', 'offset', 'bus')
    if known[1] and known[3] == id then
        return known[1], tonumber(known[2]), true
    end
    return id .. '-' .. math.floor(now / {EPOCH_MILLISECONDS}), 0, false
end
-- Never to less than before: a history may be kept for longer than this.
local function extend(meta, milliseconds)
    if redis.call('PTTL', meta) < tonumber(milliseconds) then
        redis.call('PEXPIRE', meta, milliseconds)
    end
end
local function made(meta, stream, id)
    local epoch, offset, is_known = head(meta, id)
    if not is_known then
        redis.call('HSET', meta, 'epoch', epoch, 'offset', 0, 'bytes', 0, 'bus', id)
        redis.call('DEL', stream)
    end
    return epoch, offset
end
"""

# KEYS: stream, meta, bus, bus-meta, void. ARGV: topic, data, key, nonce, count, bytes,
# milliseconds, milliseconds of the meta, a new id of the bus.
PUBLISH = Script(
    NOW
    + ON_BUS
    + HEAD
    + """
if redis.call('EXISTS', KEYS[5]) == 1 then
    return {}
end
local epoch, offset = made(KEYS[2], KEYS[1], bus_id(KEYS[3], KEYS[4], ARGV[9]))
offset = redis.call('HINCRBY', KEYS[2], 'offset', 1)
local count, most, oldest = tonumber(ARGV[5]), tonumber(ARGV[6]), now - tonumber(ARGV[7])
if count > 0 then
    if redis.call('EXISTS', KEYS[1]) == 0 then
        redis.call('HSET', KEYS[2], 'bytes', 0)
    end
    redis.call('XADD', KEYS[1], offset .. '-0', 'data', ARGV[2], 'key', ARGV[3],
        'nonce', ARGV[4], 'time', now)
    redis.call('HSET', KEYS[2], 'lifetime', ARGV[7])
    local bytes = redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[2])
    local length = redis.call('XLEN', KEYS[1])
    while length > 0 do
        local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
        if length <= count and bytes <= most and tonumber(first[2][8]) >= oldest then
            break
        end
        redis.call('XDEL', KEYS[1], first[1])
        bytes = redis.call('HINCRBY', KEYS[2], 'bytes', 0 - #first[2][2])
        length = length - 1
    end
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
end
extend(KEYS[2], ARGV[8])
on_bus(KEYS[3], KEYS[4], ARGV[9], 'message', ARGV[1], epoch, offset, ARGV[3], ARGV[4], ARGV[2])
return {epoch, offset}
"""
)

# KEYS: bus. ARGV: prefix, nonces of publications that may have been made. Returns the positions of
# those that were. The others cannot be made any more, even if their scripts arrive later.
SETTLE = Script(
    f"""
local wanted, found, left, last = {{}}, {{}}, #ARGV - 1, '+'
for index = 2, #ARGV do
    wanted[ARGV[index]] = index - 1
    found[index - 1] = {{}}
end
while left > 0 do
    local entries = redis.call('XREVRANGE', KEYS[1], last, '-', 'COUNT', 100)
    if #entries == 0 then
        break
    end
    for _, entry in ipairs(entries) do
        local index = wanted[entry[2][12]]
        if index then
            found[index] = {{entry[2][6], tonumber(entry[2][8])}}
            left = left - 1
        end
    end
    last = '(' .. entries[#entries][1]
end
for index = 2, #ARGV do
    if #found[index - 1] == 0 then
        redis.call('SET', ARGV[1] .. ':void:' .. ARGV[index], 1, 'EX', {VOID_SECONDS})
    end
end
return found
"""
)

# KEYS: meta, bus, bus-meta. ARGV: a new id of the bus, milliseconds of the meta.
LOOK = Script(
    NOW
    + _BUS_ID
    + HEAD
    + """
local epoch, offset, is_known = head(KEYS[1], bus_id(KEYS[2], KEYS[3], ARGV[1]))
if is_known then
    extend(KEYS[1], ARGV[2])
end
return {epoch, offset}
"""
)

# KEYS: stream, meta, bus, bus-meta. ARGV: those of LOOK, the epoch and the offset to start after,
# how many messages, how many bytes.
REPLAY = Script(
    NOW
    + _BUS_ID
    + HEAD
    + """
local epoch, offset, is_known = head(KEYS[2], bus_id(KEYS[3], KEYS[4], ARGV[1]))
if not is_known then
    return {epoch, offset, {}}
end
extend(KEYS[2], ARGV[2])
local start, known = '-', tonumber(ARGV[4])
if ARGV[3] == epoch and known <= offset then
    start = '(' .. ARGV[4] .. '-0'
end
local oldest = now - (tonumber(redis.call('HGET', KEYS[2], 'lifetime')) or 0)
local count, size, found = tonumber(ARGV[5]), tonumber(ARGV[6]), {}
while #found < count do
    local entry = redis.call('XRANGE', KEYS[1], start, '+', 'COUNT', 1)[1]
    if not entry then
        break
    end
    start = '(' .. entry[1]
    if tonumber(entry[2][8]) >= oldest then
        size = size - #entry[2][2]
        if size < 0 and #found > 0 then
            break
        end
        found[#found + 1] = {entry[1], entry[2][2], entry[2][4]}
    end
end
return {epoch, offset, found}
"""
)

# KEYS: bus, bus-meta. ARGV: a new id of the bus; the id, number and nonce of the last entry read.
# If Redis has lost that entry, the bus and all epochs start anew.
JOIN = Script(
    _BUS_ID
    + """
local id = bus_id(KEYS[1], KEYS[2], ARGV[1])
local tail, number = tonumber(redis.call('HGET', KEYS[2], 'n')), tonumber(ARGV[3])
local function nonce_of(n)
    local entry = redis.call('XRANGE', KEYS[1], n, n)[1]
    return entry and entry[2][12] or ''
end
if id == ARGV[2] and number > 0 then
    local nonce = nonce_of(number)
    if tail < number or (nonce ~= '' and nonce ~= ARGV[4]) then
        id, tail = ARGV[1], 0
        redis.call('HSET', KEYS[2], 'id', id, 'n', 0, 'bytes', 0)
        redis.call('DEL', KEYS[1])
    end
end
return {id, tail, tail > 0 and nonce_of(tail) or ''}
"""
)

# KEYS: rate. ARGV: how many per second, how many at most.
ADMIT = Script(
    NOW
    + """
local known = redis.call('HMGET', KEYS[1], 'left', 'time')
local rate, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local left = tonumber(known[1]) or most
left = math.min(most, left + math.max(0, now - (tonumber(known[2]) or now)) * rate / 1000)
local is_admitted = 0
if left >= 1 then
    left, is_admitted = left - 1, 1
end
redis.call('HSET', KEYS[1], 'left', tostring(left), 'time', now)
redis.call('PEXPIRE', KEYS[1], math.ceil((most - left) / rate * 1000) + 1000)
return is_admitted
"""
)

TOPIC_SCRIPTS = (PUBLISH, SETTLE, LOOK, REPLAY, JOIN, ADMIT)

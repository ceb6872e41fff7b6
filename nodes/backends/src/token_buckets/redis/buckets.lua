-- Token buckets, version 1. All numbers are whole: tokens and costs in millionths, times in microseconds.
--
-- KEYS[1]: when this life of Redis began; KEYS[2..]: the buckets, each "tokens rest at": what it held at a
-- moment, and the part of a millionth (in millionths of it) that came back besides.
-- ARGV[1]: what to do; ARGV[2], ARGV[3]: for a lease, the most to grant and what is given back with it.
-- Then for each bucket: tokens a second, burst, cost.
--
--   take   debits every bucket, or none: {1} or {0, which, wait}
--   peek   the same without debiting
--   settle debits every bucket, below zero if need be: {1}
--   repay  debits every bucket as far as it has tokens: {1}
--   lease  debits one bucket by what it has, from its cost up to the most: {1, granted, tokens} or
--          {0, 1, wait, tokens}
--
-- A wait of -1 is for ever. A bucket that is not there would be full, if it was ever used in this life: it
-- holds what would have come back to an empty one since the life began.

local MILLION = 1000000
local MOST = 9000000000000000

local action = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * MILLION + clock[2]
local found = redis.call('MGET', unpack(KEYS))

local born = tonumber(found[1] or nil)
if not born then
    born = now
    redis.call('SET', KEYS[1], string.format('%.0f', now))
end

local function bucket(i)
    local b = { rate = tonumber(ARGV[3 * i + 1]), burst = tonumber(ARGV[3 * i + 2]), cost = tonumber(ARGV[3 * i + 3]) }
    local tokens, rest, at = string.match(found[i + 1] or '', '^(-?%d+) (%d+) (%d+)$')
    if tokens then
        b.tokens, b.rest, at = tonumber(tokens), tonumber(rest), tonumber(at)
    else
        b.tokens, b.rest, at = 0, 0, born
    end
    -- A clock that was put back stops nothing.
    local span = math.max(now - at, 0)
    local missing = (b.burst - b.tokens) * MILLION - b.rest
    if span * b.rate >= missing then
        b.tokens, b.rest = b.burst, 0
    else
        local gained = span * b.rate + b.rest
        local whole = math.floor(gained / MILLION)
        b.tokens = b.tokens + whole
        b.rest = math.max(gained - whole * MILLION, 0)
    end
    return b
end

local function wait(b)
    if b.cost > b.burst or b.rate <= 0 then
        return -1
    end
    return math.min(math.ceil(((b.cost - b.tokens) * MILLION - b.rest) / b.rate), MOST)
end

local function write(i, b)
    -- Once it is full it need not be kept.
    local full = ((b.burst - b.tokens) * MILLION - b.rest) / math.max(b.rate, 1) / 1000
    local value = string.format('%.0f %.0f %.0f', b.tokens, b.rest, now)
    redis.call('SET', KEYS[i + 1], value, 'PX', string.format('%.0f', math.min(math.max(full, 0) + 1000, 1e12)))
end

local function debit(i, b, cost)
    b.tokens = math.max(math.min(b.tokens - cost, b.burst), -MOST)
    write(i, b)
end

local buckets = {}
for i = 1, #KEYS - 1 do
    buckets[i] = bucket(i)
end

if action == 'lease' then
    local b = buckets[1]
    local most, back = tonumber(ARGV[2]), tonumber(ARGV[3])
    b.tokens = math.min(b.tokens + back, b.burst)
    if b.tokens < b.cost then
        return { 0, 1, wait(b), b.tokens }
    end
    local granted = math.min(b.tokens, math.max(most, b.cost))
    debit(1, b, granted)
    return { 1, granted, b.tokens }
end

if action == 'take' or action == 'peek' then
    for i, b in ipairs(buckets) do
        if b.tokens < b.cost then
            return { 0, i, wait(b) }
        end
    end
end
if action == 'peek' then
    return { 1 }
end

for i, b in ipairs(buckets) do
    if action == 'repay' then
        debit(i, b, math.min(b.cost, math.max(b.tokens, 0)))
    else
        debit(i, b, b.cost)
    end
end
return { 1 }

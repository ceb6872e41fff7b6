-- Version 1. KEYS[1]: the lock. ARGV: the owner, the time to live in ms. Answers who holds it instead, or nil.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return false
end
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
    return false
end
return holder

-- Version 1. KEYS[1]: the lock. ARGV: the owner, the time to live in ms. Answers 1, or 0 if it is not the owner's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])

-- Version 1. KEYS[1]: the lock. ARGV: the owner. Answers 1, or 0 if it is not the owner's: then it is left alone.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
return redis.call('DEL', KEYS[1])

-- Version 1. Keeps ARGV[1] under KEYS[1] for ARGV[2] milliseconds, unless something is kept there: then that is the answer.
local kept = redis.call('GET', KEYS[1])
if kept then
  return kept
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false

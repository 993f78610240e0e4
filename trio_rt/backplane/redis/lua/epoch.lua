-- Begins an epoch if the keys are on another server than before, or on one that was started anew:
-- what it has may be less than what the other one had. Run before anything else is written there.
-- KEYS: clock
-- ARGV: the server's run id
-- Returns the place where the epoch began.

local known = redis.call('HMGET', KEYS[1], 'server', 'epoch')
if known[1] == ARGV[1] then
  return known[2]
end
local place = advance(KEYS[1], 1)
redis.call('HSET', KEYS[1], 'server', ARGV[1], 'epoch', place)
return place

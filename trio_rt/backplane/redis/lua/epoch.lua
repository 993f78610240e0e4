-- Begins an epoch if the keys are on another server than before, or on one that was started anew:
-- what it has may be less than what the other one had. Run before anything else is written there.
-- Keys that were moved to another shard of a cluster came with all that there was.
-- KEYS: clock
-- ARGV: the server's run id, the id of its shard (empty where there are none)
-- Returns the place where the epoch began.

local known = redis.call('HMGET', KEYS[1], 'server', 'shard', 'epoch')
local was_moved = known[2] and known[2] ~= '' and ARGV[2] ~= '' and known[2] ~= ARGV[2]
if known[1] == ARGV[1] or was_moved then
  redis.call('HSET', KEYS[1], 'server', ARGV[1], 'shard', ARGV[2])
  return known[3]
end
local place = advance(KEYS[1], 1)
redis.call('HSET', KEYS[1], 'server', ARGV[1], 'shard', ARGV[2], 'epoch', place)
return place

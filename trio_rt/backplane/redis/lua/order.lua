-- Puts an order behind all others, with a number that shows when one is missing.
-- KEYS: stream, counter, clock
-- ARGV: order, orders kept

-- The clock's place: the server's own id could be one that was read, after a flush.
local place = advance(KEYS[3], 1)
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest and not is_after(place, newest[1]) then
  redis.call('DEL', KEYS[1])
end
local number = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], place, 'n', number, 'd', ARGV[1])
return number

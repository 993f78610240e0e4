-- Puts an order behind all others, with a number that shows when one is missing.
-- KEYS: stream, counter
-- ARGV: order, orders kept

local number = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'n', number, 'd', ARGV[1])
return number

-- A place behind which everything that is appended to these logs can be recovered, published to a
-- node as well: what arrives there before it has places up to it, and what arrives later has not.
-- KEYS: clock, meta of each log
-- ARGV: ms of the meta, channel, number of the mark, verb

local place = advance(KEYS[1], 0)
for index = 2, #KEYS do
  redis.call('HSETNX', KEYS[index], 'begin', place)
  redis.call('PEXPIRE', KEYS[index], ARGV[1])
end
redis.call(ARGV[4], ARGV[2], 'm' .. ARGV[3] .. ' ' .. place)
return place

-- A place behind which everything that is appended to these logs can be recovered.
-- KEYS: clock, meta of each log
-- ARGV: ms of the meta

local place = advance(KEYS[1], 0)
for index = 2, #KEYS do
  redis.call('HSETNX', KEYS[index], 'begin', place)
  redis.call('PEXPIRE', KEYS[index], ARGV[1])
end
return place

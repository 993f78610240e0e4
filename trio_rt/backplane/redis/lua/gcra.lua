-- The generic cell rate algorithm: one number, the theoretical arrival time of the next event.
-- KEYS: arrival time, in microseconds
-- ARGV: microseconds of one event, events at once, cost in events
-- Returns 0 if it may happen now, or the microseconds until it may.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + cost * interval
local wait = arrival - burst * interval - now
if wait > 0 then
  return math.ceil(wait)
end
redis.call('SET', KEYS[1], whole(arrival), 'PX', whole(math.ceil((arrival - now) / 1000) + 1))
return 0

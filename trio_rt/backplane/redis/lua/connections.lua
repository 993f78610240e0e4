-- Counts a user's connections over all nodes. What a dead node counted lapses with its time.
-- KEYS: counts
-- ARGV: node, how many more (or fewer), at most, ms
-- Returns {1, all of them}, or {0, all of them} if that would be too many.

local now, all, own = read_time(), 0, 0
local counts = redis.call('HGETALL', KEYS[1])
for index = 1, #counts, 2 do
  local count, ends = string.match(counts[index + 1], '^(%d+):(%d+)$')
  if tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], counts[index])
  elseif counts[index] == ARGV[1] then
    own = tonumber(count)
  else
    all = all + count
  end
end
local more = tonumber(ARGV[2])
if more > 0 and all + own + more > tonumber(ARGV[3]) then
  return {0, all + own}
end
own = math.max(0, own + more)
if own > 0 then
  redis.call('HSET', KEYS[1], ARGV[1], whole(own) .. ':' .. whole(now + ARGV[4]))
  if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then  -- others' counts may last longer
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
  end
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return {1, all + own}

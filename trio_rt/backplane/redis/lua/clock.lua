-- The hybrid clock: places "<milliseconds>-<sequence>", each greater than all before. It is kept
-- here, and follows the server's time but never goes back with it.
--
-- A clock that is missing (everything was flushed, or evicted) is made anew. Its first place in a
-- millisecond is above all that the lost one can have handed out in that millisecond before: a
-- thousand of them for each microsecond that has passed.

local function text(m, n)
  return string.format('%.0f-%.0f', m, n)
end

local function parse(place)
  local m, n = string.match(place, '^(%d+)-(%d+)$')
  return tonumber(m), tonumber(n)
end

local function is_after(a, b)
  local am, an = parse(a)
  local bm, bn = parse(b)
  return am > bm or (am == bm and an > bn)
end

-- Moves the clock `step` on, and returns its place: 1 for a new one, 0 for one that is not before
-- any that was handed out.
local function advance(key, step)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local clock = redis.call('HMGET', key, 'm', 'n')
  local m, n = tonumber(clock[1] or 0), tonumber(clock[2] or 0)
  if not clock[1] then
    m, n = now, (time[2] % 1000) * 1000
  elseif now > m then
    m, n = now, 0
  else
    n = n + step
  end
  redis.call('HSET', key, 'm', string.format('%.0f', m), 'n', string.format('%.0f', n))
  return text(m, n)
end

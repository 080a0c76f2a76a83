-- The limits of one request, in one step that nobody sees half of. The arithmetic is that of gcra.py: whole microseconds.
--
-- ARGV[1]  what to do: admit, peek, settle, renew, release
-- ARGV[2]  the time in microseconds; 0: the server's own
-- ARGV[3]  how long a lease lasts, in microseconds
-- and then, for
--   admit    the lease; and for each key: "r" (a rate) or "c" (slots), need, cost, depth.  -> 1 or 0, used of each
--   peek     for each key: "r" or "c".                                                     -> used of each
--   settle   for each key but the first: a difference. The first one marks what was done,
--            for ARGV[4] milliseconds, so that a repetition does nothing.                  -> 1 or 0
--   renew    for each key: the lease
--   release  for each key: the lease

local MOST = 4503599627370496  -- 2^52
local KEPT_LONGER = 10000      -- milliseconds that a key outlives what stands in it

local now = tonumber(ARGV[2])
if now == 0 then
  local time = redis.call("TIME")
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local lasting = tonumber(ARGV[3])

local function whole(number)
  return string.format("%.0f", number)
end

local function put(key, used)
  if used > 0 then
    redis.call("SET", key, whole(used) .. " " .. whole(now), "PX", whole(math.ceil(used / 1000) + KEPT_LONGER))
  else
    redis.call("DEL", key)
  end
end

local function rate(key)
  local used, since = string.match(redis.call("GET", key) or "", "^(%d+) (%d+)$")
  if not used then
    return 0
  end
  used, since = tonumber(used), tonumber(since)
  if now < since then  -- the clock stepped back: nothing drains, and from now on all goes on
    put(key, used)
    return used
  end
  return math.max(0, used - (now - since))
end

local function slots(key)
  redis.call("ZREMRANGEBYSCORE", key, "-inf", whole(now))
  local latest = whole(now + lasting)
  for _, lease in ipairs(redis.call("ZRANGEBYSCORE", key, "(" .. latest, "+inf")) do  -- the clock stepped back
    redis.call("ZADD", key, latest, lease)
  end
  return redis.call("ZCARD", key)
end

local function take(key, lease)
  redis.call("ZADD", key, whole(now + lasting), lease)
  redis.call("PEXPIRE", key, whole(math.ceil(lasting / 1000) + KEPT_LONGER))
end

local function used_of(kind, key)
  return kind == "c" and slots(key) or rate(key)
end

local act = {}

function act.admit()
  local answer = {1}
  for i, key in ipairs(KEYS) do
    local at = 4 * i + 1
    local used = used_of(ARGV[at], key)
    if used + tonumber(ARGV[at + 1]) > tonumber(ARGV[at + 3]) then
      answer[1] = 0
    end
    answer[i + 1] = used
  end
  if answer[1] == 0 then
    return answer
  end
  for i, key in ipairs(KEYS) do
    local at = 4 * i + 1
    local used = answer[i + 1] + tonumber(ARGV[at + 2])
    if ARGV[at] == "c" then
      take(key, ARGV[4])
    else
      used = math.min(MOST, used)
      put(key, used)
    end
    answer[i + 1] = used
  end
  return answer
end

function act.peek()
  local answer = {}
  for i, key in ipairs(KEYS) do
    answer[i] = used_of(ARGV[3 + i], key)
  end
  return answer
end

function act.settle()
  if not redis.call("SET", KEYS[1], "1", "NX", "PX", ARGV[4]) then
    return 0
  end
  for i = 2, #KEYS do
    local used = rate(KEYS[i]) + tonumber(ARGV[3 + i])
    put(KEYS[i], math.min(MOST, math.max(0, used)))
  end
  return 1
end

function act.renew()
  for i, key in ipairs(KEYS) do
    slots(key)
    take(key, ARGV[3 + i])
  end
  return 1
end

function act.release()
  for i, key in ipairs(KEYS) do
    redis.call("ZREM", key, ARGV[3 + i])
  end
  return 1
end

return act[ARGV[1]]()

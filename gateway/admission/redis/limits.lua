-- The limits of one request, checked and charged atomically. The arithmetic is that of gcra.py, in whole microseconds.
--
-- ARGV[1]  the act: admit, peek, settle, renew, release
-- ARGV[2]  the time in microseconds; 0: the server's own
-- ARGV[3]  how long a lease lasts, in microseconds
-- and then, for
--   admit    the lease; and for each key: "r" (a rate) or "c" (slots), need, cost and depth, separated by spaces.
--            -> 1 or 0, and used of each key, separated by spaces
--   peek     for each key: "r" or "c".  -> used of each key, separated by spaces
--   settle   ARGV[4] milliseconds for which the first key marks the settlement as done, so that a repetition has no
--            effect; and for each other key: a difference, and the most that is then used.  -> 1 or 0
--   renew    for each key: the lease.  -> the places, from 1, of those that were not there, separated by spaces
--   release  for each key: the lease

local MOST = 4503599627370496  -- 2^52
local KEPT_LONGER = 10000      -- milliseconds that a key outlives its content

local now = tonumber(ARGV[2])
if now == 0 then
  local time = redis.call("TIME")
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local lasting = tonumber(ARGV[3])

local function whole(number)
  return string.format("%.0f", number)
end

local since_now = " " .. whole(now)

local function put(key, used)
  if used > 0 then
    redis.call("SET", key, whole(used) .. since_now, "PX", math.ceil(used / 1000) + KEPT_LONGER)
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
  if now < since then  -- the clock stepped back: nothing drains until now, then draining continues
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
  redis.call("PEXPIRE", key, math.ceil(lasting / 1000) + KEPT_LONGER)
end

local function used_of(kind, key)
  return kind == "c" and slots(key) or rate(key)
end

local act = {}

function act.admit()
  local is_slot, cost, used, is_allowed = {}, {}, {}, 1
  for i, key in ipairs(KEYS) do
    local kind, need, its_cost, depth = string.match(ARGV[4 + i], "^(%a) (%d+) (%d+) (%d+)$")
    is_slot[i], cost[i] = kind == "c", tonumber(its_cost)
    used[i] = used_of(kind, key)
    if used[i] + tonumber(need) > tonumber(depth) then
      is_allowed = 0
    end
  end
  for i, key in ipairs(KEYS) do
    if is_allowed == 1 then
      used[i] = math.min(MOST, used[i] + cost[i])
      if is_slot[i] then
        take(key, ARGV[4])
      else
        put(key, used[i])
      end
    end
    used[i] = whole(used[i])
  end
  return is_allowed .. " " .. table.concat(used, " ")
end

function act.peek()
  local used = {}
  for i, key in ipairs(KEYS) do
    used[i] = whole(used_of(ARGV[3 + i], key))
  end
  return table.concat(used, " ")
end

function act.settle()
  if not redis.call("SET", KEYS[1], "1", "NX", "PX", ARGV[4]) then
    return 0
  end
  for i = 2, #KEYS do
    local difference, most = string.match(ARGV[3 + i], "^(-?%d+) (%d+)$")
    local used = rate(KEYS[i]) + tonumber(difference)
    put(KEYS[i], math.min(tonumber(most), math.max(0, used)))
  end
  return 1
end

function act.renew()
  local missing = {}
  for i, key in ipairs(KEYS) do
    slots(key)
    if not redis.call("ZSCORE", key, ARGV[3 + i]) then
      table.insert(missing, i)
    end
    take(key, ARGV[3 + i])
  end
  return table.concat(missing, " ")
end

function act.release()
  for i, key in ipairs(KEYS) do
    redis.call("ZREM", key, ARGV[3 + i])
  end
  return 1
end

return act[ARGV[1]]()

-- The limits of one request, checked and charged atomically. The arithmetic is that of gcra.py, in whole microseconds.
--
-- ARGV[1]  the act: admit, peek, settle, renew, release, replace
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
--   replace  for each key: the type that it must have. Deletes those of another one.  -> a line for each of them: its
--            place, from 1, a space, and the type that it had
--
-- A key of a wrong type fails the act, but never a part of it: admit, peek and settle read all keys before they write,
-- renew and release go on with the other keys, and all of them may be repeated.

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
  used, since = math.min(MOST, tonumber(used)), math.min(MOST, tonumber(since))
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

-- Do it for every key, although one fails; returns the first error as a reply, or nil.
local function each(do_one)
  local failure
  for i, key in ipairs(KEYS) do
    local is_done, why = pcall(do_one, i, key)
    failure = failure or (not is_done and why)
  end
  return type(failure) == "string" and redis.error_reply(failure) or failure or nil
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
  local used = {}
  for i = 2, #KEYS do
    local difference, most = string.match(ARGV[3 + i], "^(-?%d+) (%d+)$")
    used[i] = math.min(tonumber(most), math.max(0, rate(KEYS[i]) + tonumber(difference)))
  end
  if not redis.call("SET", KEYS[1], "1", "NX", "PX", ARGV[4]) then
    return 0
  end
  for i = 2, #KEYS do
    put(KEYS[i], used[i])
  end
  return 1
end

function act.renew()
  local missing = {}
  local failure = each(function(i, key)
    slots(key)
    if not redis.call("ZSCORE", key, ARGV[3 + i]) then
      table.insert(missing, i)
    end
    take(key, ARGV[3 + i])
  end)
  return failure or table.concat(missing, " ")
end

function act.release()
  local failure = each(function(i, key)
    redis.call("ZREM", key, ARGV[3 + i])
  end)
  return failure or 1
end

function act.replace()
  local found = {}
  for i, key in ipairs(KEYS) do
    local kind = redis.call("TYPE", key).ok
    if kind ~= "none" and kind ~= ARGV[3 + i] then
      redis.call("UNLINK", key)
      table.insert(found, i .. " " .. kind)
    end
  end
  return table.concat(found, "\n")
end

return act[ARGV[1]]()

-- The lock of one conversation across processes. KEYS[1] holds the token of the holder, KEYS[2] that of the waiter.
-- Tokens are unique. A lock that is released goes to the waiter.
--
-- ARGV[1]  the act: take (acquire), wait, renew, keep_waiting, give_back (release), leave, call_off (cancel the waiter)
-- ARGV[2]  the token of the caller
-- ARGV[3]  milliseconds that a lock lasts without renewal; ARGV[4] the same for a place in the queue
-- ARGV[5]  for take: 1 if it may wait
--
-- take returns taken, waiting, busy or called_off; wait returns waiting or busy; renew returns taken,
-- retaken (it was free) or lost (another token holds it); keep_waiting returns waiting, busy or called_off.

local CALLED_OFF = "called off: "

local token = ARGV[2]
local holder, waiting = redis.call("GET", KEYS[1]), redis.call("GET", KEYS[2])
local called_off = false
if waiting and string.sub(waiting, 1, #CALLED_OFF) == CALLED_OFF then
  called_off, waiting = string.sub(waiting, #CALLED_OFF + 1), false
end
local is_next = not waiting or waiting == token

local act = {}

function act.take()
  if called_off == token then
    redis.call("DEL", KEYS[2])
    return "called_off"
  end
  if holder == token or (not holder and is_next) then
    redis.call("SET", KEYS[1], token, "PX", ARGV[3])
    if waiting == token then
      redis.call("DEL", KEYS[2])
    end
    return "taken"
  end
  return ARGV[5] == "1" and act.wait() or "busy"
end

function act.wait()
  if not is_next then
    return "busy"
  end
  redis.call("SET", KEYS[2], token, "PX", ARGV[4])
  return "waiting"
end

function act.renew()
  if holder and holder ~= token then
    return "lost"
  end
  redis.call("SET", KEYS[1], token, "PX", ARGV[3])
  return holder and "taken" or "retaken"
end

function act.keep_waiting()
  if called_off == token then
    return "called_off"
  end
  return act.wait()
end

function act.give_back()
  if holder == token then
    if waiting then
      redis.call("SET", KEYS[1], waiting, "PX", ARGV[4])
      redis.call("DEL", KEYS[2])
    else
      redis.call("DEL", KEYS[1])
    end
  end
  return "free"
end

function act.leave()
  if waiting == token or called_off == token then
    redis.call("DEL", KEYS[2])
    waiting = false
  end
  return act.give_back()
end

function act.call_off()
  if waiting then
    redis.call("SET", KEYS[2], CALLED_OFF .. waiting, "PX", ARGV[4])
  end
  return "called_off"
end

return act[ARGV[1]]()

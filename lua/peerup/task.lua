--- Tasks: what runs at the same time, and how it is waited for. Functions given to all, race and
--- deadline return as usual, nil, err for failure; what they throw is thrown on.
local core = require "peerup.core"

local task = core.task

local M = {
  spawn = task.spawn,
  sleep = task.sleep,
  current = task.current,
  await = task.await,
  on_failure = task.on_failure,
}

--- Joins t even if this task is cancelled meanwhile: t is then cancelled too, and waited for.
--- Returns the packed outcome, and the cancellation's error.
local function join_all_the_way(t)
  local canceled
  while true do
    local outcome = table.pack(t:join())
    if outcome[1] ~= nil then
      return outcome, canceled
    end
    canceled = outcome[2]
    t:cancel()
  end
end

--- Gives the results of an outcome, or throws what the task threw.
local function results(outcome)
  if not outcome[1] then
    local problem = outcome[2]
    error(type(problem) == "string" and outcome[3] or problem, 0)
  end
  return table.unpack(outcome, 2, outcome.n)
end

--- Runs each function in a task, and calls on_end(index, outcome) as they end, until it says true;
--- then cancels the others. Returns when all have ended: nil or the error of a cancellation.
local function run(functions, on_end)
  local tasks, left, finish, stopped = {}, #functions, nil, false
  local function ended(index, outcome)
    left = left - 1
    if not stopped and on_end(index, outcome) then
      stopped = true
      for _, t in ipairs(tasks) do
        t:cancel()
      end
    end
    if left == 0 and finish then
      finish(true)
    end
  end
  for index, f in ipairs(functions) do
    tasks[index] = task.spawn(f):claim()
  end
  for index, t in ipairs(tasks) do
    task.spawn(function()
      ended(index, (join_all_the_way(t)))
    end)
  end
  local canceled
  while left > 0 do
    local good, err = task.await(function(resume)
      finish = resume
    end)
    if not good then
      canceled = err
      for _, t in ipairs(tasks) do
        t:cancel()
      end
    end
  end
  return canceled
end

--- Runs the functions at once and waits for all. Returns a list of their first results; at the
--- first failure cancels the others, and returns nil, err and the index of the one that failed.
---@async
---@param functions (fun(): any, any)[]
---@return any[]?, any, integer?
function M.all(functions)
  local values, failed = {}, nil
  local canceled = run(functions, function(index, outcome)
    if not outcome[1] or (not outcome[2] and outcome[3] ~= nil) then
      failed = { index = index, outcome = outcome }
      return true
    end
    values[index] = outcome[2]
    return false
  end)
  if failed and not failed.outcome[1] then
    results(failed.outcome)
  elseif canceled then
    return nil, canceled
  elseif failed then
    return nil, failed.outcome[3], failed.index
  end
  return values
end

--- Runs the functions at once; the first that succeeds gives the results, the others are cancelled.
--- When all fail: nil and the last one's error.
---@async
---@param functions (fun(): any, any)[]
---@return any ...
function M.race(functions)
  local winner, last
  local canceled = run(functions, function(_, outcome)
    last = outcome
    if not outcome[1] or outcome[2] then
      winner = outcome
      return true
    end
    return false
  end)
  if winner then
    return results(winner)
  elseif canceled then
    return nil, canceled
  elseif last then
    return results(last)
  end
  return nil, core.error("invalid", "nothing to race")
end

--- Calls f(...) in a task and cancels it after so many seconds. Returns its results, or nil,
--- err("timeout") when it was late, whatever it returned then.
---@async
---@param seconds number
---@param f fun(...): any
---@return any ...
function M.deadline(seconds, f, ...)
  local t = task.spawn(f, ...):claim()
  local late = false
  local guard = task.spawn(function()
    if task.sleep(seconds) then
      late = true
      t:cancel()
    end
  end)
  local outcome, canceled = join_all_the_way(t)
  guard:cancel()
  if not outcome[1] then
    return results(outcome)
  elseif late then
    return nil, core.error("timeout", ("not done after %g s"):format(seconds))
  elseif canceled then
    return nil, canceled
  end
  return results(outcome)
end

return M

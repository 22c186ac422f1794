-- Runs spec files with busted inside a task: arguments are the files. A spec may call whatever
-- waits; `async(f, seconds)` wraps a test that runs in a task of its own with a deadline (10 s),
-- and fails it when it is late. Returns the exit code.
local core = require "peerup.core"

local DEADLINE_S = 10

--- Wraps f for `it`: it runs in its own task, and errors of its tasks that nobody joined fail it.
local function async(f, seconds)
  return function()
    local failures = {}
    core.task.on_failure(function(text)
      failures[#failures + 1] = text
    end)
    local test = core.task.spawn(f):claim()
    local late = false
    local guard = core.task.spawn(function()
      if core.task.sleep(seconds or DEADLINE_S) then
        late = true
        test:cancel()
      end
    end)
    local ok, problem, trace = test:join()
    guard:cancel()
    core.task.on_failure(nil)
    if late then
      error(("not done after %g s%s"):format(seconds or DEADLINE_S,
        ok and "" or "; then: " .. tostring(problem)), 0)
    elseif not ok then
      error(type(problem) == "string" and trace or problem, 0)
    elseif #failures > 0 then
      error("tasks failed that nobody joined:\n" .. table.concat(failures, "\n"), 0)
    end
  end
end

local function main(...)
  local busted = require "busted.core"()
  require "busted"(busted)
  local failures, tests = 0, 0
  busted.subscribe({ "error" }, function()
    failures = failures + 1
    return nil, true
  end)
  busted.subscribe({ "failure" }, function()
    failures = failures + 1
    return nil, true
  end)
  busted.subscribe({ "test", "end" }, function()
    tests = tests + 1
    return nil, true
  end)
  require "busted.modules.output_handler_loader"()(busted, "plainTerminal", {
    defaultOutput = "plainTerminal", verbose = true, language = "en", arguments = {},
  })
  busted.export("async", async)
  require "busted.modules.test_file_loader"(busted, { "lua" })({ ... }, { "_spec" },
    { excludes = {}, verbose = true, recursive = true })
  require "busted.execute"(busted)(1, {})
  busted.publish({ "exit" })
  if tests == 0 then
    io.stderr:write("no test was run\n")
    return 1
  end
  return failures == 0 and 0 or 1
end

return main(...)

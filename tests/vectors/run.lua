--- Checks the engine against test vectors: run.lua DIR [NAME...]
-- Reads every *.json of DIR (or only NAME.json ...) and hands each case to the function that a file
-- of checks/ gives for its file and kind. A file, kind or case that no check covers is a failure.
-- Environment: PEERUP_PROBE_DIR, the folder of peerup_probe.so; PEERUP_LUA_DIR and
-- PEERUP_LUA_CDIR (optional), where the modules under test are.
local here = arg[0]:match("^(.*)/[^/]*$") or "."
package.path = here .. "/?.lua;" .. package.path
if os.getenv("PEERUP_LUA_DIR") then
  local dir = os.getenv("PEERUP_LUA_DIR")
  package.path = dir .. "/?.lua;" .. dir .. "/?/init.lua;" .. package.path
end
for _, name in ipairs { "PEERUP_PROBE_DIR", "PEERUP_LUA_CDIR" } do
  local dir = os.getenv(name)
  if dir then package.cpath = dir .. "/?.so;" .. package.cpath end
end

local cjson = require "cjson"
local lfs = require "lfs"

local function names_in(dir, suffix)
  local names = {}
  for entry in lfs.dir(dir) do
    local name = entry:match("^(.+)%." .. suffix .. "$")
    if name then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return assert(file:read("a"))
end

--- Every check by file and kind, and how many areas could not be loaded: their cases fail, those
--- of others are still checked.
local function load_checks()
  local all, broken = {}, 0
  for _, area in ipairs(names_in(here .. "/checks", "lua")) do
    local ok, files = pcall(require, "checks." .. area)
    if not ok then
      print(("FAIL checks/%s.lua: %s"):format(area, tostring(files)))
      broken = broken + 1
    end
    for file, kinds in pairs(ok and files or {}) do
      all[file] = all[file] or {}
      for kind, check in pairs(kinds) do
        assert(not all[file][kind], ("two checks for %s, kind %s"):format(file, kind))
        all[file][kind] = check
      end
    end
  end
  return all, broken
end

local dir = arg[1]
if not dir then
  io.stderr:write("usage: run.lua DIR [NAME...]\n")
  os.exit(2)
end
local files = table.move(arg, 2, #arg, 1, {})
if #files == 0 then files = names_in(dir, "json") end

local checks, failed = load_checks()
local passed = 0
for _, file in ipairs(files) do
  local content = cjson.decode(read(dir .. "/" .. file .. ".json"))
  local cases = content.cases
  if type(content.data) == "table" then -- a table that is checked as a whole
    cases = { { kind = "data", name = "data", data = content.data } }
  end
  local good = 0
  if type(cases) ~= "table" or #cases == 0 then
    print(("FAIL %s: no cases"):format(file))
    failed = failed + 1
    cases = {}
  end
  for _, case in ipairs(cases) do
    local check = checks[file] and checks[file][case.kind]
    local ok, err = false, ("no check for kind %s"):format(tostring(case.kind))
    if check then ok, err = pcall(check, case) end
    if ok then
      good = good + 1
    else
      print(("FAIL %s: %s: %s"):format(file, tostring(case.name), tostring(err)))
      failed = failed + 1
    end
  end
  passed = passed + good
  print(("%s: %d of %d"):format(file, good, #cases))
end
if passed + failed == 0 then
  print(("FAIL %s: no vectors"):format(dir))
  failed = 1
end
print(("%d passed, %d failed"):format(passed, failed))
os.exit(failed == 0 and 0 or 1, true)

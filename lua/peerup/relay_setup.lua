--- `relay setup`: makes a relay's files in a folder, or keeps, replaces or restores those that are
-- there (cli.md 10). What is replaced is in a backup first; files are written beside and renamed.
local err = require "peerup.err"
local fs = require "peerup.fs"
local template = require "peerup.config.template"
local uv = require "luv"

local M = {}

M.BACKUPS = "backups"
local BACKUPS_SAME_SECOND_MAX = 99

-- In the order in which they are asked about. A key is made by the relay at its first start.
local FILES = {
  { name = "relay-server.yaml", title = "config", text = template.relay },
  { name = "relay_node.key", title = "identity key" },
  { name = "relay_authorized_keys", title = "authorized peers",
    text = function() return template.AUTHORIZED_KEYS.relay end },
}

local function existing(dir)
  local list = {}
  for _, file in ipairs(FILES) do
    if fs.exists(fs.join(dir, file.name)) then list[#list + 1] = file end
  end
  return list
end

--- The names of the backups, newest first.
local function backups(dir)
  local list = {}
  local scan = uv.fs_scandir(fs.join(dir, M.BACKUPS))
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    if kind == "directory" and name:find "^%d%d%d%d%-%d%d%-%d%d_%d%d%d%d%d%d" then
      list[#list + 1] = name
    end
  end
  table.sort(list, function(a, b) return a > b end)
  return list
end

local function copy(from, to)
  local bytes, problem = fs.read(from)
  if not bytes then return nil, problem end
  return fs.write(to, bytes)
end

--- Copies what is there into a folder of its own, which gets its name once it is whole.
---@return string? path  nil, nil when there is nothing
---@return peerup.err?
local function back_up(ctx, dir)
  local files = existing(dir)
  if #files == 0 then return nil end
  local base = fs.join(dir, M.BACKUPS)
  local name = os.date("!%Y-%m-%d_%H%M%S", ctx.now())
  local path = fs.join(base, name)
  for i = 1, BACKUPS_SAME_SECOND_MAX do
    if not fs.exists(path) then break end
    path = fs.join(base, ("%s_%02d"):format(name, i))
  end
  local part = path .. ".part"
  local ok, problem = fs.mkdir(part)
  for _, file in ipairs(ok and files or {}) do
    ok, problem = copy(fs.join(dir, file.name), fs.join(part, file.name))
    if not ok then break end
  end
  if ok and not uv.fs_rename(part, path) then
    ok, problem = nil, err.say("io_error", "cannot name the backup " .. path)
  end
  if not ok then return nil, err.say(problem.code, "backup failed: " .. tostring(problem)) end
  ctx.out:line("Backup: %s", path)
  return path
end

--- Makes the files that are missing; the relay's own key is left to its first start.
local function complete(ctx, dir)
  local ok, problem = fs.mkdir(dir)
  if not ok then return nil, problem end
  for _, file in ipairs(FILES) do
    local path = fs.join(dir, file.name)
    if fs.exists(path) then
      uv.fs_chmod(path, tonumber("600", 8))
    elseif file.text then
      ok, problem = fs.write(path, file.text())
      if not ok then return nil, problem end
      ctx.out:line("Created: %s", path)
    end
  end
  return true
end

--- Replaces files by new ones: a text is overwritten, a key removed.
local function renew(dir, files)
  for _, file in ipairs(files) do
    local path = fs.join(dir, file.name)
    local ok, problem = true, nil
    if file.text then
      ok, problem = fs.write(path, file.text())
    elseif fs.exists(path) then
      ok, problem = fs.remove(path)
    end
    if not ok then return nil, problem end
  end
  return true
end

local function fresh(ctx, dir)
  local _, problem = back_up(ctx, dir)
  if problem then return nil, problem end
  return renew(dir, FILES)
end

local function restore(ctx, dir)
  local list = backups(dir)
  if #list == 0 then
    ctx.out:line("There are no backups; the files stay as they are.")
    return true
  end
  for i, name in ipairs(list) do ctx.out:line("  %d) %s", i, name) end
  ctx.out:write(("Restore which snapshot? [1-%d]: "):format(#list))
  local name = list[math.tointeger(tonumber(ctx.read_line() or "")) or 0]
  if not name then
    ctx.out:line("No such number; the files stay as they are.")
    return true
  end
  local _, problem = back_up(ctx, dir)
  if problem then return nil, problem end
  for _, file in ipairs(FILES) do
    local from = fs.join(dir, M.BACKUPS .. "/" .. name .. "/" .. file.name)
    if fs.exists(from) then
      local ok
      ok, problem = copy(from, fs.join(dir, file.name))
      if not ok then return nil, problem end
    end
  end
  ctx.out:line("Restored: %s", name)
  return true
end

local function by_file(ctx, dir)
  local replace = {}
  for _, file in ipairs(existing(dir)) do
    ctx.out:write(("Keep existing %s? [Y/n]: "):format(file.title))
    local answer = (ctx.read_line() or ""):lower():match "^%s*(.-)%s*$"
    if answer == "n" then replace[#replace + 1] = file end
  end
  if #replace == 0 then return true end
  local _, problem = back_up(ctx, dir)
  if problem then return nil, problem end
  return renew(dir, replace)
end

local CHOICES = { ["2"] = fresh, ["3"] = restore, ["4"] = by_file }

local function ask(ctx, dir, files)
  local out = ctx.out
  out:line("There is a relay in %s already:", dir)
  for _, file in ipairs(files) do out:line("  %-22s (%s)", file.name, file.title) end
  local list = backups(dir)
  if #list > 0 then out:line("  backups: %d, the newest of %s", #list, list[1]) end
  out:line()
  out:line("  1) Keep everything")
  out:line("  2) Begin afresh; what is there goes into a backup")
  out:line("  3) Restore a backup")
  out:line("  4) Decide for each file")
  out:write("Choice [1/2/3/4]: ")
  local answer = ctx.read_line()
  if not answer then
    out:line()
    return nil, err.say("eof", "failed to read input: EOF")
  end
  local choice = CHOICES[answer:match "^%s*(.-)%s*$"]
  if choice then return choice(ctx, dir) end
  out:line("Keeping the files as they are.")
  return true
end

--- Runs the command.
---@param ctx peerup.context
---@param args {dir: string?, fresh: boolean?, non_interactive: boolean?}
---@return integer? exit_code, peerup.err?
function M.run(ctx, args)
  local dir = args.dir or "."
  local files = existing(dir)
  local ok, problem = true, nil
  if #files > 0 then
    if args.fresh then
      ok, problem = fresh(ctx, dir)
    elseif args.non_interactive then
      return nil, err.say("exists", ("there is a relay in %s already: --fresh makes a backup and "
        .. "begins anew, without --non-interactive you are asked"):format(dir))
    else
      ok, problem = ask(ctx, dir, files)
    end
  end
  if ok then ok, problem = complete(ctx, dir) end
  if not ok then return nil, problem end
  ctx.out:paint("green", "The relay in %s is set up.", dir)
  ctx.out:line("Next:")
  ctx.out:line("  peerup relay serve --config %s", fs.join(dir, FILES[1].name))
  ctx.out:line("  peerup relay authorize <peer ID> --config %s", fs.join(dir, FILES[1].name))
  return 0
end

return M

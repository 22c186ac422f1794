--- Finds a command, parses its words, runs it and turns the outcome into an exit code (cli.md 1).
local fs = require "peerup.fs"
local nearest = require "peerup.nearest"

local M = {}

-- The order of the usage text; commands found in the folder but not here come last.
M.ORDER = {
  { "Set up", "init", "whoami", "status", "version" },
  { "Peers", "invite", "join", "verify", "auth", "resolve" },
  { "Services", "service", "daemon", "proxy", "ssh", "ping", "traceroute" },
  { "Relays", "relay" },
  { "Configuration", "config" },
  { "Help", "completion", "manual" },
}

local function command_path(dir, name)
  if not name:find("^[a-z][a-z0-9-]*$") then return nil end
  local path = fs.join(dir, name .. ".lua")
  return fs.exists(path) and path or nil
end

--- Loads a command's table; errors in the file are programming errors.
local function load_command(dirs, name)
  for _, dir in ipairs(dirs) do
    local path = command_path(dir, name)
    if path then return assert(loadfile(path, "t"))() end
  end
end

local function names_in(dirs)
  local uv = require "luv"
  local names, seen = {}, {}
  for _, dir in ipairs(dirs) do
    local scan = uv.fs_scandir(dir)
    while scan do
      local entry = uv.fs_scandir_next(scan)
      if not entry then break end
      local name = entry:match("^([a-z][a-z0-9-]*)%.lua$")
      if name and not seen[name] then
        seen[name] = true
        names[#names + 1] = name
      end
    end
  end
  table.sort(names)
  return names
end

--- All commands' tables, by name.
local function all(dirs)
  local list = {}
  for i, name in ipairs(names_in(dirs)) do list[i] = load_command(dirs, name) end
  return list
end

--- The program's usage.
---@return string
function M.usage(dirs)
  local lines = { "Usage: peerup <command> [sub] [flags] [args]", "" }
  local listed = {}
  local function add(name)
    local command = load_command(dirs, name)
    if not command then return end
    listed[name] = true
    lines[#lines + 1] = ("  %-10s %s"):format(name, command.summary)
  end
  for _, group in ipairs(M.ORDER) do
    lines[#lines + 1] = group[1] .. ":"
    for i = 2, #group do add(group[i]) end
    lines[#lines + 1] = ""
  end
  local others = {}
  for _, name in ipairs(names_in(dirs)) do
    if not listed[name] then others[#others + 1] = name end
  end
  if #others > 0 then
    lines[#lines + 1] = "Others:"
    for _, name in ipairs(others) do add(name) end
    lines[#lines + 1] = ""
  end
  lines[#lines + 1] = "'peerup help <command>' or 'peerup <command> --help' tells more. A node's "
    .. "config is looked for"
  lines[#lines + 1] = "in ./peerup.yaml, ~/.config/peerup/config.yaml and /etc/peerup/config.yaml, "
    .. "unless --config names it."
  return table.concat(lines, "\n") .. "\n"
end

--- The usage of a command that has subcommands.
---@param path string  its words after the program's name
local function group_usage(command, path)
  local lines = { ("Usage: peerup %s <sub> [flags] [args]"):format(path), "", command.summary, "" }
  for _, sub in ipairs(command.commands) do
    lines[#lines + 1] = ("  %-12s %s%s"):format(sub.name, sub.summary,
      sub.name == command.default and " (also without <sub>)" or "")
  end
  lines[#lines + 1] = ""
  lines[#lines + 1] = ("'peerup %s <sub> --help' tells more."):format(path)
  return table.concat(lines, "\n") .. "\n"
end

local function sub_of(command, name)
  for _, sub in ipairs(command.commands) do
    if sub.name == name or sub.alias == name then return sub end
  end
end

local HELP = { help = true, ["--help"] = true, ["-h"] = true, ["-help"] = true }

--- Says that a word is no command, and what it could be. Usage that nobody asked for is an error's.
local function unknown(ctx, what, word, known, usage)
  ctx.err:line("Unknown %s: %s", what, word)
  local near = nearest.of(word, known)
  if near then ctx.err:line("Did you mean '%s'?", near) end
  ctx.err:line("")
  ctx.err:write(usage)
  return 1
end

local function unknown_sub(ctx, command, path, word)
  if word:sub(1, 1) == "-" then
    ctx.err:line("Error: flags stand behind the subcommand of %s: %s", path, word)
    ctx.err:line("")
    ctx.err:write(group_usage(command, path))
    return 1
  end
  local names = {}
  for _, one in ipairs(command.commands) do names[#names + 1] = one.name end
  return unknown(ctx, path .. " subcommand", word, names, group_usage(command, path))
end

--- Says more about a command, or the one below it that words name; the exit code.
local function help(ctx, command, path, words)
  for _, word in ipairs(words) do
    if not command.commands then break end
    if not HELP[word] then
      local sub = sub_of(command, word)
      if not sub then return unknown_sub(ctx, command, path, word) end
      command, path = sub, path .. " " .. sub.name
    end
  end
  if command.commands then
    ctx.out:write(group_usage(command, path))
  else
    command.path = path
    local text = require("peerup.cli.args").parser(command):get_help()
    ctx.out:line("%s", (text:gsub("\n+$", "")))
  end
  return 0
end

--- Steps down to a subcommand; returns nil and the exit code when there is none to run.
local function descend(ctx, command, path, words)
  local word = words[1]
  local rest = table.move(words, 2, #words, 1, {})
  if word and HELP[word] then return nil, help(ctx, command, path, rest) end
  local sub = word and sub_of(command, word)
  if sub then return sub, rest end
  if command.default and (not word or word:sub(1, 1) == "-") then
    return sub_of(command, command.default), words
  end
  if word then return nil, unknown_sub(ctx, command, path, word) end
  ctx.err:write(group_usage(command, path))
  return nil, 1
end

--- Tells of a failure and returns the exit code.
local function fail(ctx, command, problem)
  local text = tostring(problem)
  if problem.code == "help" then
    ctx.out:line((problem.message:gsub("\n+$", "")))
    return 0
  end
  if problem.code == "usage" then
    local usage = require("peerup.cli.args").parser(command)
    if command.bad_usage == 2 then
      ctx.err:line(text)
      ctx.err:line((usage:get_help():gsub("\n+$", "")))
      return problem.exit or 2
    end
    ctx.err:line("Error: %s", text)
    ctx.err:line(usage:get_usage())
    return 1
  end
  if problem.code == "silent" then return problem.exit or 1 end
  ctx.err:line(command.bare_errors and "%s" or "Error: %s", text)
  return problem.exit or 1
end

--- Runs one command.
---@async
---@return integer exit_code
function M.run_command(ctx, command, words)
  local path = command.name
  while command.commands do
    local sub, rest = descend(ctx, command, path, words)
    if not sub then return rest end
    path = path .. " " .. sub.name
    command, words = sub, rest
  end
  command.path = path
  local args, problem = require("peerup.cli.args").parse(command, words)
  if not args then return fail(ctx, command, problem) end
  for _, extra in ipairs(args.extra) do
    ctx.err:paint("yellow", 'Note: ignored the extra argument "%s"', extra)
  end
  local code
  code, problem = command.run(ctx, args)
  if code == nil then return fail(ctx, command, problem) end
  return code
end

--- Runs the program.
---@async
---@param ctx peerup.context
---@param words string[]    everything after the program's name
---@param dirs string[]     folders of commands, the user's after ours
---@return integer exit_code
function M.run(ctx, words, dirs)
  ctx.commands = function() return all(dirs) end
  local name = words[1]
  if not name then
    ctx.out:write(M.usage(dirs))
    ctx.out:line()
    require("peerup.cli.next").tell(ctx)
    return 1
  end
  local rest = table.move(words, 2, #words, 1, {})
  local asks = HELP[name]
  if asks then
    while HELP[rest[1]] do table.remove(rest, 1) end
    if not rest[1] then
      ctx.out:write(M.usage(dirs))
      return 0
    end
    name = table.remove(rest, 1)
  elseif name == "--version" or name == "-version" or name == "-v" then
    name = "version"
  end
  local command = load_command(dirs, name)
  if not command and name:sub(1, 1) == "-" then
    ctx.err:line("Error: flags stand behind the command: %s", name)
    ctx.err:line("")
    ctx.err:write(M.usage(dirs))
    return 1
  elseif not command then
    return unknown(ctx, "command", name, names_in(dirs), M.usage(dirs))
  end
  if asks then return help(ctx, command, command.name, rest) end
  return M.run_command(ctx, command, rest)
end

return M

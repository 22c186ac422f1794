--- Runs commands in a spec without a process: a context with its own outputs, clock, home, input.
local context = require "peerup.cli.context"
local fs = require "peerup.fs"
local main = require "peerup.cli.main"
local output = require "peerup.cli.output"
local uv = require "luv"

local M = {}

M.SOURCE = os.getenv "PEERUP_SOURCE" or "."
M.PEERS = {
  "12D3KooWNQEpehHdB5VrF2dmxY7ssQLCPwMt75AWjb8cEZfCVyYG",
  "12D3KooWPjwb6aZGQvN4tcyFXRYrc7h7SBSMuKiyVVSJmvSkX8nU",
  "12D3KooWGfnRjf6fyp7bwmWfLjLg9hw1kmSF6SosLWZoMC9AjKZg",
}
M.RELAY = "/ip4/203.0.113.50/tcp/7777/p2p/" .. M.PEERS[3]

--- Removes a directory and all below it.
local function remove_tree(path)
  local scan = uv.fs_scandir(path)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    local sub = fs.join(path, name)
    if kind == "directory" then remove_tree(sub) else uv.fs_unlink(sub) end
  end
  uv.fs_rmdir(path)
end

--- Makes a directory of its own; close removes it.
function M.dir()
  local path = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/peerup-spec-XXXXXX"))
  return setmetatable({ path = path, close = function() remove_tree(path) end },
    { __close = function() remove_tree(path) end })
end

--- Makes a context. options: home, input (lines), env (table), now (seconds).
function M.context(options)
  local out, errors, input = {}, {}, options.input or {}
  local next_line = 0
  local ctx = context.new {
    out = output.new(function(text) out[#out + 1] = text end),
    err = output.new(function(text) errors[#errors + 1] = text end),
    env = function(name) return (options.env or {})[name] end,
    home = options.home, version = "1.2.3",
    now = function() return options.now or 1800000000 end,
    read_line = function()
      next_line = next_line + 1
      return input[next_line]
    end,
  }
  function ctx.text() return table.concat(out) end
  function ctx.errors() return table.concat(errors) end
  return ctx
end

--- Runs "peerup <words>"; returns exit code, standard output, standard error.
function M.run(options, ...)
  local ctx = M.context(options)
  local code = main.run(ctx, { ... }, { M.SOURCE .. "/scripts/commands" })
  return code, ctx.text(), ctx.errors(), ctx
end

--- Calls fn for each command that can be run: its words, and its table. They are found, not listed:
--- a new one cannot escape.
function M.each_command(fn)
  local dir = M.SOURCE .. "/scripts/commands"
  local function descend(words, command)
    if not command.commands then return fn(words, command) end
    for _, sub in ipairs(command.commands) do
      local longer = table.move(words, 1, #words, 1, {})
      longer[#longer + 1] = sub.name
      descend(longer, sub)
    end
  end
  local names = {}
  local scan = assert(uv.fs_scandir(dir))
  for entry in function() return uv.fs_scandir_next(scan) end do
    local name = entry:match "^(.*)%.lua$"
    if name then names[#names + 1] = name end
  end
  table.sort(names)
  assert(#names > 10)
  for _, name in ipairs(names) do
    descend({ name }, assert(loadfile(("%s/%s.lua"):format(dir, name), "t"))())
  end
end

--- Writes a whole, valid node config with its key and authorized_keys; returns its path.
function M.node_home(dir, change)
  local template = require "peerup.config.template"
  local base = fs.join(dir.path, ".config/peerup")
  assert(fs.mkdir(base))
  local text = template.node { by = "init", relay = M.RELAY }
  local path = fs.join(base, "config.yaml")
  assert(fs.write(path, change and change(text) or text))
  assert(fs.write(fs.join(base, "authorized_keys"), template.AUTHORIZED_KEYS.init))
  return path, base
end

return M

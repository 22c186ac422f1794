--- Completes a command line: from the commands' own tables, and the names in the user's config. The
-- shells' scripts only ask for it, so they never grow old. Made from whatever half a line is there:
-- it says nothing rather than fail.
local args = require "peerup.cli.args"

local M = {}

local MAX_WORDS = 200 -- of the config: more than a shell would show

-- What an argument or option names, when its table has no `complete` of its own.
local KINDS = { peer = "peers", target = "peers", service = "services" }

-- Nothing that a shell would read as more than a word goes out.
local function is_plain(word)
  return #word <= 128 and word:find("^[%w_][%w._-]*$") ~= nil
end

local function config_of(ctx, path)
  local load = require "peerup.config.load"
  local config = load.node(path, ctx.home)
  return config
end

local from_config = {}

--- IDs of authorized peers.
function from_config.ids(config)
  local keys = require "peerup.authorized_keys"
  local path = config.security.authorized_keys_file
  local text = path ~= "" and keys.read_file(path)
  local list = {}
  for i, peer in ipairs(text and keys.list(text) or {}) do
    list[i] = { peer.peer_id, peer.comment }
  end
  return list
end

--- Names of the config, then the IDs of authorized peers that have no name.
function from_config.peers(config)
  local list, named = {}, {}
  for _, name in ipairs(require("peerup.config.load").sorted_keys(config.names)) do
    list[#list + 1] = { name, config.names[name] }
    named[config.names[name]] = true
  end
  for _, pair in ipairs(from_config.ids(config)) do
    if not named[pair[1]] then list[#list + 1] = pair end
  end
  return list
end

function from_config.services(config)
  local list = {}
  for i, service in ipairs(require("peerup.services").list(config)) do
    list[i] = { service.name, service.local_address }
  end
  return list
end

local function options_by_name(command)
  local by_name = {}
  for _, option in ipairs(args.options(command)) do
    by_name[option[1]] = option
    if option.alias then by_name[option.alias] = option end
    if option.short then by_name[option.short] = option end
  end
  return by_name
end

--- The words that name a thing of a kind.
local function values(ctx, kind, config_path)
  local config = kind and config_of(ctx, config_path)
  if not config then return {} end
  local list = {}
  for _, pair in ipairs(from_config[kind](config)) do
    if #list < MAX_WORDS and is_plain(pair[1]) then list[#list + 1] = pair end
  end
  return list
end

-- `complete = false` in a table: it names nothing of this config.
local function kind_of(described)
  if described.complete ~= nil then return described.complete end
  return KINDS[described[1]]
end

local function commands_of(list)
  local found = {}
  for i, command in ipairs(list) do found[i] = { command.name, command.summary } end
  return found
end

local function flags_of(command)
  local found = {}
  for _, option in ipairs(args.options(command)) do
    found[#found + 1] = { "--" .. option[1], option.help }
  end
  found[#found + 1] = { "--help", "say more" }
  return found
end

local function sub_of(list, name)
  for _, command in ipairs(list) do
    if command.name == name or command.alias == name then return command end
  end
end

--- Reads the words before the last: where in the commands the last one stands.
local function walk(commands, words)
  local state = { list = commands, position = 1 }
  local options, ended = {}, false
  for i = 1, #words - 1 do
    local word = words[i]
    local name, value = word:match "^%-%-?([^=-][^=]*)(=?.*)$"
    if state.option then
      -- bash tells of `--flag=value` as three words.
      if word ~= "=" then
        if state.option[1] == "config" then state.config = word end
        state.option = nil
      end
    elseif ended or not name then
      if word == "--" and not ended then
        ended = true
      elseif state.list then
        local command = sub_of(state.list, word)
        if not command then return nil end
        state.command, state.list = command, command.commands
        options = options_by_name(command)
      else
        state.position = state.position + 1
      end
    else
      if state.list and state.command and state.command.default then
        state.command = sub_of(state.list, state.command.default)
        state.list, options = nil, options_by_name(state.command)
      end
      local option = options[name]
      if option and option.type ~= "flag" then
        if value == "" then
          state.option = option
        elseif option[1] == "config" then
          state.config = value:sub(2)
        end
      end
    end
  end
  state.ended = ended
  return state
end

--- Finds what the last word can become.
---@param ctx peerup.context
---@param commands table[]   all of the program's
---@param words string[]     what stands after the program's name; the last one is begun, or ""
---@return {[1]: string, [2]: string?}[] found  word, and what it is
function M.words(ctx, commands, words)
  local begun = words[#words] or ""
  if words[1] == "help" and #words > 1 then words = table.move(words, 2, #words, 1, {}) end
  local state = walk(commands, words)
  if not state then return {} end
  local found
  if state.option then
    if begun == "=" then begun = "" end
    found = values(ctx, kind_of(state.option), state.config)
  elseif begun:sub(1, 1) == "-" and not state.ended then
    local command = state.command
    if command and command.default then command = sub_of(command.commands, command.default) end
    found = command and (not command.commands) and flags_of(command)
      or { { "--help", "say more" }, not command and { "--version", "the program's" } or nil }
    begun = begun:gsub("^%-([^-])", "--%1")
  elseif state.list then
    found = commands_of(state.list)
    found[#found + 1] = { "help", "say more" }
  else
    local list = state.command.args or {}
    local argument = list[state.position]
    if not argument and #list > 0 and list[#list].many then argument = list[#list] end
    found = argument and values(ctx, kind_of(argument), state.config) or {}
  end
  local fitting = {}
  for _, pair in ipairs(found) do
    if pair[1]:sub(1, #begun) == begun then fitting[#fitting + 1] = pair end
  end
  return fitting
end

M.SCRIPTS = {}

M.SCRIPTS.bash = [[
# Completion of peerup for bash: the program itself says what fits.
_peerup() {
  local word text
  COMPREPLY=()
  while IFS=$'\t' read -r word text; do
    COMPREPLY+=("$word")
  done < <("${COMP_WORDS[0]/#\~/$HOME}" completion words -- \
    "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _peerup peerup
]]

M.SCRIPTS.zsh = [[
#compdef peerup
# Completion of peerup for zsh: the program itself says what fits.
_peerup() {
  local word text
  local -a found
  while IFS=$'\t' read -r word text; do
    found+=("${word}:${text}")
  done < <("${words[1]/#\~/$HOME}" completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( ${#found} )); then
    _describe peerup found
  else
    _files
  fi
}
if [ "$funcstack[1]" = "_peerup" ]; then
  _peerup "$@"
else
  compdef _peerup peerup
fi
]]

M.SCRIPTS.fish = [[
# Completion of peerup for fish: the program itself says what fits.
function __peerup_words
  set -l words (commandline -opc) (commandline -ct)
  set -l found (peerup completion words -- $words[2..-1] 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c peerup -f -a '(__peerup_words)'
]]

return M

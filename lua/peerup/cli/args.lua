--- Command descriptions onto lua-argparse, with the flag habits of Go: one or two dashes are the
-- same, `--f v` and `--f=v`, booleans `--f` or `--f=false`, flags before or after positionals, and
-- `--` ends flags (cli.md 1).
local err = require "peerup.err"
local nearest = require "peerup.nearest"

local M = {}

M.CONFIG_OPTION = { "config", type = "string", value = "<path>", help = "the config file to use" }
M.JSON_OPTION = { "json", type = "flag", help = "print JSON" }

--- Splits a word into a flag's name and its attached value; nil when it is no flag.
local function flag_of(word)
  if word == "-" or word == "--" then return nil end
  local name, value = word:match("^%-%-?([^=-][^=]*)=?(.*)$")
  if not name then return nil end
  if not word:find("=", 1, true) then value = nil end
  return name, value
end

--- Parts flags, with their values, from positionals. Every flag that is not known as boolean takes
--- the next word; `--` stays in front of what follows it.
local function part(words, booleans)
  local flags, rest = {}, {}
  local i = 1
  while i <= #words do
    local word = words[i]
    if word == "--" then
      table.move(words, i, #words, #rest + 1, rest)
      break
    end
    local name, value = flag_of(word)
    if name then
      flags[#flags + 1] = word
      if not value and not booleans[name] and words[i + 1] then
        i = i + 1
        flags[#flags + 1] = words[i]
      end
    else
      rest[#rest + 1] = word
    end
    i = i + 1
  end
  return flags, rest
end

--- Brings flags to the front.
---@param words string[]
---@param booleans table<string, boolean>  flags that take no value
---@return string[]
function M.reorder(words, booleans)
  local flags, rest = part(words, booleans)
  return table.move(rest, 1, #rest, #flags + 1, flags)
end

local TRUE = { ["1"] = true, t = true, T = true, ["true"] = true, TRUE = true, True = true }
local FALSE = { ["0"] = true, f = true, F = true, ["false"] = true, FALSE = true, False = true }

--- All options of a command, its own and the common ones.
function M.options(command)
  local options = {}
  for _, option in ipairs(command.options or {}) do options[#options + 1] = option end
  if not command.no_config then options[#options + 1] = M.CONFIG_OPTION end
  return options
end

local function usage_error(text, flag)
  local problem = err.say("usage", text)
  problem.flag = flag
  return nil, problem
end

local convert = {}

function convert.string(text) return text end

function convert.integer(text)
  local n = math.tointeger(tonumber(text))
  if not n then return nil, "must be an integer" end
  return n
end

function convert.duration(text)
  local ns, problem = require("peerup.config.values").parse_duration(text)
  return ns, problem and tostring(problem)
end

--- Reads the flags at the front of reordered words into the form argparse wants.
local function normalise(command, words)
  local by_name, booleans, known = {}, {}, {}
  for _, option in ipairs(M.options(command)) do
    local names = { option[1] }
    names[#names + 1] = option.short
    names[#names + 1] = option.alias
    for _, name in ipairs(names) do
      by_name[name] = option
      known[#known + 1] = name
      if option.type == "flag" then booleans[name] = true end
    end
  end
  booleans.h, booleans.help = true, true
  local out, i = {}, 1
  local flags, rest = part(words, booleans)
  local positionals, ended = {}, false
  for _, word in ipairs(rest) do
    if word == "--" and not ended then ended = true else positionals[#positionals + 1] = word end
  end
  while i <= #flags do
    local name, value = flag_of(flags[i])
    if name == "h" or name == "help" then return { help = true } end
    local option = by_name[name]
    if not option then
      return usage_error(("flag provided but not defined: -%s%s"):format(name,
        nearest.hint(name, known, "--%s")), name)
    end
    if option.type == "flag" then
      if value and FALSE[value] then
        out[option[1]] = nil
      elseif value and not TRUE[value] then
        return usage_error(('invalid boolean value "%s" for -%s'):format(value, name), name)
      else
        out[option[1]] = true
      end
    else
      if not value then
        i = i + 1
        value = flags[i]
        if not value then return usage_error("flag needs an argument: -" .. name, name) end
      end
      local ok, why = convert[option.type](value)
      if ok == nil then
        return usage_error(('invalid value "%s" for flag -%s: %s'):format(value, name, why), name)
      end
      out[option[1]] = value
    end
    i = i + 1
  end
  return { flags = out, positionals = positionals }
end

--- Builds the argparse parser of a command; its help text is the command's.
---@param command table
---@return table parser
function M.parser(command)
  local argparse = require "argparse"
  local parser = argparse("peerup " .. (command.path or command.name), command.summary,
    command.epilog)
  parser:add_help("-h --help")
  parser:usage_max_width(100)
  for _, argument in ipairs(command.args or {}) do
    local count = argument.many and (argument.optional and "*" or "+")
      or argument.optional and "?" or 1
    parser:argument(argument[1], argument.help):args(count)
  end
  for _, option in ipairs(M.options(command)) do
    local names = "--" .. option[1]
    if option.alias then names = names .. (#option.alias == 1 and " -" or " --") .. option.alias end
    if option.short then names = "-" .. option.short .. " " .. names end
    local target = option[1]:gsub("-", "_")
    if option.type == "flag" then
      parser:flag(names, option.help):target(target)
    else
      local help = option.help
      if (option.default or "") ~= "" then
        help = ("%s (default %s)"):format(help, option.default)
      end
      parser:option(names, help):target(target):argname(option.value or "<" .. option[1] .. ">")
        :convert(convert[option.type]):default(option.default):show_default(false)
    end
  end
  return parser
end

--- Parses the words after a command's name.
---@param command table
---@param words string[]
---@return table? args    by option and argument name; .extra holds positionals nobody asked for
---@return peerup.err? err  code "usage", or "help" with the text as message
function M.parse(command, words)
  local parsed, problem = normalise(command, words)
  if not parsed then return nil, problem end
  local parser = M.parser(command)
  if parsed.help then return nil, err.say("help", parser:get_help()) end
  local line, extra = {}, {}
  for name, value in pairs(parsed.flags) do
    line[#line + 1] = value == true and "--" .. name or ("--%s=%s"):format(name, value)
  end
  table.sort(line)
  local capacity, need = 0, 0
  for _, argument in ipairs(command.args or {}) do
    capacity = argument.many and math.huge or capacity + 1
    if not argument.optional then need = need + 1 end
  end
  local given = #parsed.positionals
  if given < need then
    local missing = command.args[given + 1]
    return usage_error(("missing argument: <%s>"):format(missing[1]))
  end
  line[#line + 1] = "--"
  for i, word in ipairs(parsed.positionals) do
    local list = i <= capacity and line or extra
    list[#list + 1] = word
  end
  local ok, result = parser:pparse(line)
  if not ok then return usage_error(result) end
  result.extra = extra
  return result
end

return M

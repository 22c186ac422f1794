--- Manual pages from the commands' own tables, in the man macros: peerup(1), and one page for each
-- command with all of its subcommands.
local args = require "peerup.cli.args"

local M = {}

--- Makes text safe between macros: no escape, no hyphen that a line breaks at, no macro of its own.
local function plain(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("[\r\n]+%s*", "\n")
  return (("\n" .. text):gsub("\n([.'])", "\n\\&%1"):sub(2))
end

local function usage_of(path, command)
  local parts = { "\\fBpeerup " .. plain(path) .. "\\fR" }
  for _, option in ipairs(args.options(command)) do
    parts[#parts + 1] = ("[\\fB\\-\\-%s\\fR%s]"):format(plain(option[1]), option.type == "flag"
      and "" or " \\fI" .. plain(option.value or "<" .. option[1] .. ">") .. "\\fR")
  end
  for _, argument in ipairs(command.args or {}) do
    local name = "\\fI" .. plain(argument[1]) .. "\\fR" .. (argument.many and " ..." or "")
    parts[#parts + 1] = argument.optional and "[" .. name .. "]" or name
  end
  return table.concat(parts, " ")
end

local function tagged(lines, tag, text)
  lines[#lines + 1] = ".TP"
  lines[#lines + 1] = tag
  lines[#lines + 1] = plain(text)
end

--- Arguments and options of one command.
local function describe(lines, command)
  for _, argument in ipairs(command.args or {}) do
    tagged(lines, "\\fI" .. plain(argument[1]) .. "\\fR", argument.help)
  end
  for _, option in ipairs(args.options(command)) do
    local names = "\\fB\\-\\-" .. plain(option[1]) .. "\\fR"
    if option.alias then
      names = ("%s, \\fB%s%s\\fR"):format(names, #option.alias == 1 and "\\-" or "\\-\\-",
        plain(option.alias))
    end
    if option.short then names = "\\fB\\-" .. option.short .. "\\fR, " .. names end
    if option.type ~= "flag" then
      names = names .. " \\fI" .. plain(option.value or "<" .. option[1] .. ">") .. "\\fR"
    end
    local help = option.help
    if (option.default or "") ~= "" then help = ("%s (default %s)"):format(help, option.default) end
    tagged(lines, names, help)
  end
  if command.epilog then
    lines[#lines + 1] = ".PP"
    lines[#lines + 1] = plain(command.epilog)
  end
end

local function walk(lines, path, command)
  if not command.commands then
    lines[#lines + 1] = ".SS " .. '"' .. plain(path) .. '"'
    lines[#lines + 1] = plain(command.summary) .. "."
    lines[#lines + 1] = ".PP"
    lines[#lines + 1] = usage_of(path, command)
    return describe(lines, command)
  end
  for _, sub in ipairs(command.commands) do walk(lines, path .. " " .. sub.name, sub) end
end

local function head(page, summary, version)
  return { (".TH %s 1 \"\" \"peerup %s\" \"peerup manual\""):format(plain(page:upper()),
    plain(version)), ".SH NAME", plain(page) .. " \\- " .. plain(summary), ".SH SYNOPSIS" }
end

local function foot(lines, others)
  lines[#lines + 1] = ".SH SEE ALSO"
  lines[#lines + 1] = table.concat(others, ",\n")
  return table.concat(lines, "\n") .. "\n"
end

--- The page of one command.
---@param command table
---@param version string
---@return string
function M.command(command, version)
  local lines = head("peerup-" .. command.name, command.summary, version)
  if command.commands then
    lines[#lines + 1] = ("\\fBpeerup %s\\fR \\fIsubcommand\\fR [\\fIflags\\fR] [\\fIargs\\fR]")
      :format(plain(command.name))
    lines[#lines + 1] = ".SH COMMANDS"
    if command.default then
      lines[#lines + 1] = ("Without a subcommand it is \\fB%s\\fR."):format(plain(command.default))
    end
    walk(lines, command.name, command)
  else
    lines[#lines + 1] = usage_of(command.name, command)
    lines[#lines + 1] = ".SH OPTIONS"
    lines[#lines + 1] = "Flags may stand before or after arguments."
    describe(lines, command)
  end
  return foot(lines, { "\\fBpeerup\\fR(1)" })
end

--- The page of the program.
---@param commands table[]
---@param version string
---@return string
function M.program(commands, version)
  local lines = head("peerup", "reach your machines, wherever they are", version)
  lines[#lines + 1] = "\\fBpeerup\\fR \\fIcommand\\fR [\\fIsub\\fR] [\\fIflags\\fR] [\\fIargs\\fR]"
  lines[#lines + 1] = ".SH COMMANDS"
  local others = {}
  for _, command in ipairs(commands) do
    tagged(lines, "\\fB" .. plain(command.name) .. "\\fR", command.summary)
    others[#others + 1] = ("\\fBpeerup\\-%s\\fR(1)"):format(plain(command.name))
  end
  for _, part in ipairs {
    { ".SH EXIT STATUS" },
    { ".TP", "0", "success" }, { ".TP", "1", "any failure" },
    { ".TP", "2", "a bad flag or argument of a command that uses the network" },
    { ".SH FILES" },
    { ".TP", "./peerup.yaml, ~/.config/peerup/config.yaml, /etc/peerup/config.yaml",
      "the config of a node, in this order, unless --config names it" },
    { ".TP", "./relay-server.yaml", "the config of a relay" },
    { ".SH ENVIRONMENT" },
    { ".TP", "PEERUP_INVITE_CODE", "the code for peerup join, when none is given" },
    { ".TP", "NO_COLOR", "when not empty, no colours" },
  } do
    for i, line in ipairs(part) do lines[#lines + 1] = i > 1 and plain(line) or line end
  end
  return foot(lines, others)
end

return M

--- Standard output and error as commands see them: lines, colours, JSON, columns.
local json = require "peerup.json"
local term = require "peerup.cli.term"

local M = {}

---@class peerup.output
---@field closed boolean?  nobody reads any more
---@field columns (fun(): integer)?  how wide the terminal is; 0 when it does not tell
---@field live peerup.progress?  has a line on the terminal that goes away first
local Output = {}
Output.__index = Output

--- Makes an output.
---@param write fun(text: string): boolean?  false when it could not
---@param is_terminal boolean?
---@param no_color string?
---@return peerup.output
function M.new(write, is_terminal, no_color)
  return setmetatable({ sink = write, is_terminal = is_terminal or false,
    term = term.new(is_terminal or false, no_color) }, Output)
end

function Output:write(text)
  if self.live then self.live:hide() end
  if self.sink(text) == false then self.closed = true end
end

--- Writes a line; format arguments are optional.
function Output:line(text, ...)
  if select("#", ...) > 0 then text = text:format(...) end
  self:write((text or "") .. "\n")
end

--- Writes a line in a colour.
function Output:paint(color, text, ...)
  if select("#", ...) > 0 then text = text:format(...) end
  self:write(self.term:paint(color, text) .. "\n")
end

--- Writes a value as JSON, indented by two.
function Output:json(value)
  self:write(json.encode(value, 2) .. "\n")
end

--- Writes a value as one line of JSON.
function Output:json_line(value)
  self:write(json.encode(value) .. "\n")
end

return M

--- Colours, and whether to use them: only on a terminal, and never when NO_COLOR is set.
local M = {}

local CODES = { green = "32", red = "31", yellow = "33", faint = "2", bold = "1" }

---@class peerup.term
local Term = {}
Term.__index = Term

--- Makes a painter.
---@param is_terminal boolean
---@param no_color string?  the variable's value
---@return peerup.term
function M.new(is_terminal, no_color)
  return setmetatable({ on = is_terminal and (no_color == nil or no_color == "") }, Term)
end

---@param color "green"|"red"|"yellow"|"faint"|"bold"
---@param text string
---@return string
function Term:paint(color, text)
  if not self.on then return text end
  return ("\27[%sm%s\27[0m"):format(CODES[color], text)
end

return M

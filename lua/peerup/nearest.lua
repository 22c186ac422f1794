--- "Did you mean": the known word nearest to one that nobody knows.
local M = {}

-- Longer words are not compared: who sends one to the daemon must not keep it busy.
M.MAX_BYTES = 192
M.MAX_CANDIDATES = 256

--- Number of single edits between two words: a letter more, less or other, or two neighbours
--- exchanged.
local function distance(a, b)
  local before, last = {}, {}
  for j = 0, #b do last[j] = j end
  for i = 1, #a do
    local row = { [0] = i }
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
    end
    before, last = last, row
  end
  return last[#b]
end

--- Returns the candidate nearest to word, when one is near enough to be meant; of several the
--- first in the list.
---@param word string
---@param candidates string[]
---@return string?
function M.of(word, candidates)
  if word == "" or #word > M.MAX_BYTES then return nil end
  local best, best_distance = nil, (#word <= 3 and 1 or math.max(2, #word // 3)) + 1
  for i = 1, math.min(#candidates, M.MAX_CANDIDATES) do
    local candidate = candidates[i]
    if math.abs(#candidate - #word) < best_distance then
      local d = distance(word:lower(), candidate:lower())
      if d < best_distance then best, best_distance = candidate, d end
    end
  end
  return best
end

--- The same as words for the end of a message: ' (did you mean "web"?)', or nothing.
---@param word string
---@param candidates string[]
---@param form string?  a format for the candidate; "%s" in quotes unless given
---@return string
function M.hint(word, candidates, form)
  local near = M.of(word, candidates)
  return near and (" (did you mean %s?)"):format((form or '"%s"'):format(near)) or ""
end

return M

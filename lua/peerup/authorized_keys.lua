--- The file of authorized peers (wire.md 17.1): reading it as the gate does (one bad line refuses
-- all) and as lists do (bad lines are skipped), and editing it. Unlike the original, `expires` is
-- honoured by the policy, and a last line without its newline is mended before one is added.
local err = require "peerup.err"
local fs = require "peerup.fs"
local nearest = require "peerup.nearest"

local M = {}

M.MAX_LINE_BYTES = 65536
M.MAX_TRIES = 5 -- to change a file that others change too
local WRITE_ORDER = { "expires", "verified" }

--- White space as Unicode sees it, for trimming and splitting.
local SPACES = { "\u{85}", "\u{A0}", "\u{1680}", "\u{2028}", "\u{2029}", "\u{202F}", "\u{205F}",
  "\u{3000}" }
for code = 0x2000, 0x200A do SPACES[#SPACES + 1] = utf8.char(code) end

--- Replaces every white space by a plain one.
local function plain_spaces(text)
  text = text:gsub("[\t\n\v\f\r]", " ")
  if text:find("[\xC2\xE1\xE2\xE3]") then
    for _, space in ipairs(SPACES) do text = text:gsub(space, " ") end
  end
  return text
end

--- Trims white space as Unicode sees it, leaving the inside alone.
local function trim(text)
  local again = true
  text = text:match("^%s*(.-)%s*$")
  while again do
    again = false
    for _, space in ipairs(SPACES) do
      if text:sub(1, #space) == space then text, again = text:sub(#space + 1), true end
      if #text > 0 and text:sub(- #space) == space then
        text, again = text:sub(1, - #space - 1), true
      end
    end
    if again then text = text:match("^%s*(.-)%s*$") end
  end
  return text
end

--- Days since 1970-01-01 of a date of the Gregorian calendar.
local function days(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = year // 400
  local year_of_era = year - era * 400
  local day_of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    - 719468
end

local MONTH_DAYS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

--- Reads an RFC 3339 time; nil when it is none.
---@param text string
---@return integer? unix_seconds
function M.parse_time(text)
  local y, mo, d, h, mi, s, rest =
    text:match("^(%d%d%d%d)-(%d%d)-(%d%d)[Tt](%d%d):(%d%d):(%d%d)(.*)$")
  if not y then return nil end
  rest = rest:gsub("^%.%d+", "")
  local offset = 0
  if rest ~= "Z" and rest ~= "z" then
    local sign, oh, om = rest:match("^([+-])(%d%d):(%d%d)$")
    if not sign or tonumber(oh) > 23 or tonumber(om) > 59 then return nil end
    offset = (tonumber(oh) * 60 + tonumber(om)) * 60 * (sign == "-" and -1 or 1)
  end
  y, mo, d = math.tointeger(tonumber(y)), math.tointeger(tonumber(mo)), math.tointeger(tonumber(d))
  h, mi, s = math.tointeger(tonumber(h)), math.tointeger(tonumber(mi)), math.tointeger(tonumber(s))
  if mo < 1 or mo > 12 or d < 1 or d > MONTH_DAYS[mo] or h > 23 or mi > 59 or s > 59 then
    return nil
  end
  local leap = y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0)
  if mo == 2 and d == 29 and not leap then return nil end
  return days(y, mo, d) * 86400 + h * 3600 + mi * 60 + s - math.tointeger(offset)
end

---@class peerup.key_line
---@field id_text string      as written; "" on lines without a peer
---@field attributes table<string, string>
---@field comment string

--- Takes one line apart.
---@param line string
---@return peerup.key_line
function M.parse_line(line)
  local before, comment = line, ""
  local hash = line:find("#", 1, true)
  if hash then before, comment = line:sub(1, hash - 1), trim(line:sub(hash + 1)) end
  local result = { id_text = "", attributes = {}, comment = comment }
  for word in plain_spaces(before):gmatch("%S+") do
    if result.id_text == "" then
      result.id_text = word
    else
      local key, value = word:match("^([^=]*)=(.*)$")
      if key then result.attributes[key] = value end
    end
  end
  if result.id_text == "" then result.comment = "" end
  return result
end

--- Lines of a text as the original's scanner sees them: without their ends, one CR dropped.
local function lines_of(text)
  local list, from = {}, 1
  while from <= #text do
    local at = text:find("\n", from, true)
    local line = text:sub(from, (at or #text + 1) - 1)
    if #line >= M.MAX_LINE_BYTES then
      return nil, err.say("malformed", ("authorized_keys: line %d is longer than 64 KiB")
        :format(#list + 1))
    end
    list[#list + 1] = line:gsub("\r$", "")
    from = (at or #text) + 1
  end
  return list
end

---@class peerup.key_entry
---@field peer_id string
---@field comment string
---@field attributes table<string, string>
---@field expires integer?   Unix seconds; absent when not set or not a time
---@field expires_bad boolean?  set, but not a time: such an entry counts as expired
---@field verified string
---@field group string
---@field line integer

local function entry_of(parsed, peer_id, line)
  local a = parsed.attributes
  local expires = a.expires and M.parse_time(a.expires)
  return {
    peer_id = peer_id, comment = parsed.comment, attributes = a, line = line,
    expires = expires,
    expires_bad = (a.expires ~= nil and a.expires ~= "" and not expires) or nil,
    verified = a.verified or "", group = a.group or "",
  }
end

local function read_entries(text, on_bad)
  local core = require "peerup.core"
  local lines, problem = lines_of(text)
  if not lines then return nil, problem end
  local entries = {}
  for number, line in ipairs(lines) do
    local parsed = M.parse_line(line)
    if parsed.id_text ~= "" then
      local id, why = core.peer_id.parse(parsed.id_text)
      if id then
        entries[#entries + 1] = entry_of(parsed, id, number)
      elseif on_bad then
        problem = on_bad(number, parsed, why)
        if problem then return nil, problem end
      end
    end
  end
  return entries
end

--- Reads strictly, for the gate: one bad peer ID refuses the whole file.
---@param text string
---@return table<string, peerup.key_entry>? by_peer, peerup.err?
function M.load(text)
  local entries, problem = read_entries(text, function(number, parsed, why)
    local bad = err.say("malformed", ("invalid peer ID at line %d: %s (%s)"):format(number,
      parsed.id_text:sub(1, 80), tostring(why)))
    bad.line = number
    return bad
  end)
  if not entries then return nil, problem end
  local by_peer = {}
  for _, entry in ipairs(entries) do by_peer[entry.peer_id] = entry end
  return by_peer
end

--- Reads leniently, for lists: bad lines are left out.
---@param text string
---@return peerup.key_entry[]? entries, peerup.err?
function M.list(text)
  return read_entries(text)
end

--- Finds every fault of a file, for `auth validate`.
---@return integer good, {line: integer, text: string}[] faults
function M.check(text)
  local faults = {}
  local entries, problem = read_entries(text, function(number, parsed, why)
    faults[#faults + 1] = { line = number, text = ("invalid peer ID %q: %s"):format(
      parsed.id_text:sub(1, 80), tostring(why)) }
  end)
  if not entries then return 0, { { line = 0, text = tostring(problem) } } end
  for _, entry in ipairs(entries) do
    if entry.expires_bad then
      faults[#faults + 1] = { line = entry.line, text = ("expires=%s is no time (RFC 3339, such as "
        .. "2030-01-02T03:04:05Z)"):format(entry.attributes.expires) }
    end
  end
  table.sort(faults, function(a, b) return a.line < b.line end)
  return #entries, faults
end

--- Makes a comment safe to be written behind a hash sign.
---@return string
function M.clean_comment(comment)
  return (comment:gsub("[\r\n%z]", ""))
end

local function write_line(id_text, attributes, comment)
  local parts, rest, first = { id_text }, {}, {}
  for _, key in ipairs(WRITE_ORDER) do
    first[key] = true
    if attributes[key] and attributes[key] ~= "" then
      parts[#parts + 1] = key .. "=" .. attributes[key]
    end
  end
  for key, value in pairs(attributes) do
    if not first[key] and value ~= "" then rest[#rest + 1] = key .. "=" .. value end
  end
  table.sort(rest)
  table.move(rest, 1, #rest, #parts + 1, parts)
  if comment ~= "" then parts[#parts + 1] = "# " .. comment end
  return table.concat(parts, "  ")
end

local function parse_id(text)
  local id, problem = require("peerup.core").peer_id.parse(text)
  if not id then return nil, err.say("invalid", "invalid peer ID: " .. tostring(problem)) end
  return id
end

local function short(id)
  return id:sub(1, 16) .. "..."
end
M.short = short

--- Whom a word may mean that names no peer of the text: the nearest peer ID or comment, as words
--- for the end of a message.
---@return string
function M.hint(text, word)
  local known, entry_by = {}, {}
  for _, entry in ipairs(M.list(text) or {}) do
    for _, name in ipairs { entry.peer_id, entry.comment } do
      if name ~= "" and not entry_by[name] then
        known[#known + 1] = name
        entry_by[name] = entry
      end
    end
  end
  local entry = entry_by[nearest.of(word, known)]
  if not entry then return "" end
  return (" (did you mean %s%s?)"):format(entry.peer_id,
    entry.comment ~= "" and "  # " .. entry.comment or "")
end

--- Adds a peer to a text.
---@param comment string?
---@param attributes table<string, string>?
---@return string? text, peerup.err?  code "exists" when it is there already
function M.add(text, peer_id, comment, attributes)
  local id, problem = parse_id(peer_id)
  if not id then return nil, problem end
  local known
  known, problem = M.load(text)
  if not known then return nil, problem end
  if known[id] then return nil, err.say("exists", "peer already authorized: " .. short(id)) end
  if text ~= "" and text:sub(-1) ~= "\n" then text = text .. "\n" end
  return text .. write_line(id, attributes or {}, M.clean_comment(comment or "")) .. "\n"
end

--- Walks the lines that name a peer; change returns the new line, or nil to drop it.
local function rewrite(text, id, change)
  local core = require "peerup.core"
  local lines, problem = lines_of(text)
  if not lines then return nil, problem end
  local out, hits = {}, 0
  for _, line in ipairs(lines) do
    local parsed = M.parse_line(line)
    if parsed.id_text ~= "" and core.peer_id.parse(parsed.id_text) == id then
      hits = hits + 1
      line = change(parsed)
    end
    out[#out + 1] = line
  end
  if hits == 0 then
    return nil, err.say("not_found", "peer not found: " .. short(id) .. M.hint(text, id))
  end
  out[#out + 1] = ""
  return table.concat(out, "\n")
end

--- Removes all lines of a peer.
---@return string? text, peerup.err?  code "not_found" when there is none
function M.remove(text, peer_id)
  local id, problem = parse_id(peer_id)
  if not id then
    return nil, err.say(problem.code, tostring(problem) .. M.hint(text, peer_id))
  end
  return rewrite(text, id, function() return nil end)
end

--- Sets an attribute of a peer; an empty value deletes it.
---@return string? text, peerup.err?
function M.set_attribute(text, peer_id, key, value)
  local id, problem = parse_id(peer_id)
  if not id then return nil, problem end
  return rewrite(text, id, function(parsed)
    parsed.attributes[key] = value
    return write_line(parsed.id_text, parsed.attributes, parsed.comment)
  end)
end

--- Tells whether an entry admits its peer now.
---@param entry peerup.key_entry?
---@param now integer  Unix seconds
---@return boolean
function M.is_valid(entry, now)
  if not entry or entry.expires_bad then return false end
  return not entry.expires or now < entry.expires
end

--- Reads a file; one that does not exist is empty.
---@return string? text, peerup.err?
function M.read_file(path)
  local text, problem = fs.read(path)
  if text then return text end
  if problem.code == "not_found" then return "" end
  return nil, problem
end

--- Changes a file: fn takes its text and returns the new one. When somebody else has written in the
--- meantime it starts again, so that no peer of theirs is lost.
---@param path string
---@param fn fun(text: string): string?, peerup.err?
---@return true?, peerup.err?
function M.update_file(path, fn)
  for _ = 1, M.MAX_TRIES do
    local text, problem = M.read_file(path)
    if not text then return nil, problem end
    local changed
    changed, problem = fn(text)
    if not changed then return nil, problem end
    if changed == text and fs.exists(path) then return true end
    if M.read_file(path) == text then return fs.write(path, changed) end
  end
  return nil, err.say("again", path .. " is being changed by somebody else; try again")
end

return M

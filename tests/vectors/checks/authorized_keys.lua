--- Checks of lua/peerup/authorized_keys.lua: authorized_keys.json.
local lib = require "lib"
local cjson = require "cjson"
local keys = require "peerup.authorized_keys"

local function attributes(got, want)
  for key, value in pairs(want) do lib.equal("attribute " .. key, got[key], value) end
  for key in pairs(got) do lib.equal("attribute " .. key, want[key] ~= nil, true) end
end

local function entry(got, want)
  lib.equal("peer ID", got.peer_id, want.peer_id)
  lib.equal("comment", got.comment, want.comment)
  lib.equal("group", got.group, want.group)
  lib.equal("verified", got.verified, want.verified)
  lib.equal("expires", got.expires, want.expires_at_unix and math.tointeger(want.expires_at_unix))
end

local function line(case)
  local parsed = keys.parse_line(case.text)
  lib.equal("ID as written", parsed.id_text, case.peer_id_text)
  lib.equal("comment", parsed.comment, case.comment)
  attributes(parsed.attributes, case.attributes)
  local listed = assert(keys.list(case.text))
  lib.equal("entries", #listed, case.listed and 1 or 0)
  if case.listed then entry(listed[1], case.listed) end
end

local function text_of(case)
  if case.text then return case.text end
  local count, letter = case.text_description:match("(%d+) letters (%a)")
  assert(case.text_description:find("^PEER, space, #, space, "), "unknown description")
  return case.peer_id .. " # " .. letter:rep(tonumber(count)) .. "\n"
end

local function file(case)
  local text = text_of(case)
  local loaded, problem = keys.load(text)
  lib.accepted("load", case.load_ok, loaded, problem)
  local count = 0
  for _ in pairs(loaded or {}) do count = count + 1 end
  lib.equal("loaded peers", count, case.load_count)
  if case.load_error then
    local number = case.load_error:match("at line (%d+)")
    if number then lib.equal("line", problem.line, tonumber(number)) end
  end
  local listed
  listed, problem = keys.list(text)
  lib.accepted("list", case.list_ok, listed, problem)
  local want = case.listed == cjson.null and {} or case.listed
  lib.equal("listed peers", #(listed or {}), #want)
  for i, one in ipairs(want) do entry(listed[i], one) end
end

local function edited(case, got, problem)
  lib.accepted("edit", case.ok, got, problem)
  lib.equal("file", got or case.before, case.after)
end

local function edit_set(case)
  edited(case, keys.set_attribute(case.before, case.peer_id, case.key, case.value))
end

local function edit_remove(case)
  edited(case, keys.remove(case.before, case.peer_id))
end

--- The Go program glues a new entry to a last line without its newline, and so loses both peers; we
-- mend the line first (docs/rough-edges.md).
local function edit_add(case)
  local got, problem = keys.add(case.before, case.peer_id, case.comment)
  if case.ok and case.before ~= "" and case.before:sub(-1) ~= "\n" then
    local added = case.after:sub(#case.before + 1)
    lib.equal("file", assert(got, problem), case.before .. "\n" .. added)
    return
  end
  edited(case, got, problem)
end

return {
  authorized_keys = {
    line = line, file = file, edit_set = edit_set, edit_add = edit_add, edit_remove = edit_remove,
  },
}

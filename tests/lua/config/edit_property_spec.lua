--- lua/peerup/config/edit.lua over many layouts that a person may write: an edit either changes
--- what was wanted, and nothing else (meaning, comments, lines), or is refused with a reason.
local edit = require "peerup.config.edit"
local lyaml = require "lyaml"

local LAYOUTS = 2500
local EDITS_EACH = 2
local SEED = math.tointeger(os.getenv "PEERUP_TEST_SEED" or "") or 20261124
local MOST_REFUSED = 0.2

-- ---- writing a config in some layout ----

--- A writer whose choices come from a seed.
local function writer(seed)
  local state = seed * 2654435761 % 2147483647 + 1
  local w = { lines = {}, comments = {}, owner = "" }

  --- A number from 1 to n.
  function w.roll(n)
    state = state * 48271 % 2147483647
    return state % n + 1
  end

  function w.chance(percent) return w.roll(100) <= percent end

  function w.one_of(...)
    local list = { ... }
    return list[w.roll(#list)]
  end

  --- A comment of its own, which belongs to what is being written.
  function w.comment()
    local text = ("# c%d;%s"):format(#w.comments + 1,
      w.one_of("", " names:", " - x {", " 'it's", ' "'))
    w.comments[#w.comments + 1] = { text = text, owner = w.owner }
    return text
  end

  --- A line; sometimes with a comment behind, or with lines above that say nothing.
  function w.line(text, bare)
    if not bare and w.chance(8) then w.lines[#w.lines + 1] = w.one_of("", "  ", " ") end
    if not bare and w.chance(12) then
      w.lines[#w.lines + 1] = (" "):rep(w.roll(7) - 1) .. w.comment()
    end
    if w.chance(15) then text = text .. w.one_of(" ", "  ", "\t") .. w.comment()
    elseif w.chance(5) then text = text .. "  " end
    w.lines[#w.lines + 1] = text
  end

  function w.scalar(value)
    if type(value) ~= "string" then return tostring(value) end
    local style = w.roll(3)
    if style == 1 and not value:find("^[%[{&*!|>'\"%%@`]") and not value:find(": ", 1, true)
      and value ~= "" then
      return (w.chance(3) and "&a" .. w.roll(1000000) .. " " or "") .. value
    end
    return style == 2 and "'" .. value .. "'" or '"' .. value .. '"'
  end

  function w.key(name)
    return w.chance(8) and w.one_of('"' .. name .. '"', "'" .. name .. "'") or name
  end
  return w
end

local write_value

local function flow(w, value)
  local parts = {}
  if value.seq then
    for i, item in ipairs(value.seq) do parts[i] = w.scalar(item) end
  else
    for i, entry in ipairs(value) do
      local inner = type(entry[2]) == "table" and flow(w, entry[2]) or w.scalar(entry[2])
      parts[i] = entry[1] .. ": " .. inner
    end
  end
  local pad = w.one_of("", " ")
  local open, close = value.seq and "[" or "{", value.seq and "]" or "}"
  if #parts == 0 then return open .. pad .. close end
  return open .. pad .. table.concat(parts, w.one_of(", ", ",  ")) .. pad .. close
end

local function write_map(w, map, indent, path)
  local step = w.roll(5)
  for _, entry in ipairs(map) do
    local outer = w.owner
    w.owner = path .. "." .. entry[1]
    write_value(w, (" "):rep(indent) .. w.key(entry[1]) .. ":", entry[2], indent, step, w.owner)
    w.owner = outer
  end
end

function write_value(w, head, value, indent, step, path)
  if type(value) ~= "table" then
    w.line(head .. " " .. w.scalar(value))
  elseif value.empty then
    w.line(head .. w.one_of("", " {}", value.seq and " []" or " {}", " ~", " null"):gsub("{}",
      value.seq and "[]" or "{}"))
  elseif w.chance(20) then
    w.line(head .. " " .. flow(w, value))
  elseif value.seq then
    w.line(head)
    local outer, inner = w.owner, (" "):rep(indent + w.roll(step + 1) - 1)
    for _, item in ipairs(value.seq) do
      w.owner = path .. "." .. item
      w.line(inner .. "-" .. w.one_of(" ", "   ") .. w.scalar(item))
      w.owner = outer
    end
  else
    w.line(head)
    write_map(w, value, indent + step, path)
  end
end

--- Makes a config: its sections in any order.
local function layout(seed)
  local w = writer(seed)
  local relays, names, services = { seq = {} }, {}, {}
  for i = 1, w.roll(4) - 1 do relays.seq[i] = ("/ip4/192.0.2.%d/tcp/7777"):format(i) end
  relays.empty = #relays.seq == 0
  for i = 1, w.roll(4) - 1 do names[i] = { "peer" .. i, "12D3" .. i } end
  names.empty = #names == 0
  for i = 1, w.roll(4) - 1 do
    local service = { { "local_address", "localhost:" .. i } }
    if w.chance(80) then table.insert(service, w.roll(2), { "enabled", w.chance(50) }) end
    if w.chance(20) then service[#service + 1] = { "allowed_peers", { seq = { "A", "B" } } } end
    services[i] = { "s" .. i, service }
  end
  services.empty = #services == 0
  local sections = { { "version", 1 }, { "identity", { { "key_file", "identity.key" } } },
    { "other", { { "names", 1 }, { "relay", { { "addresses", 2 } } } } },
  }
  local relay = { { "reservation_interval", "2m" } }
  table.insert(relay, w.roll(2), { "addresses", relays })
  for _, section in ipairs { { "relay", relay }, { "names", names }, { "services", services } } do
    if not w.chance(10) then table.insert(sections, w.roll(#sections + 1), section) end
  end
  if w.chance(10) then w.line("---", true) end
  write_map(w, sections, 0, "")
  if w.chance(20) then w.lines[#w.lines + 1] = w.comment() end
  if w.chance(5) then w.lines[#w.lines + 1] = "..." end
  local newline = w.chance(10) and "\r\n" or "\n"
  local text = table.concat(w.lines, newline) .. (w.chance(85) and newline or "")
  if w.chance(3) then text = "\u{FEFF}" .. text end
  return w, text
end

-- ---- edits, and what they must come to ----

local function map_of(value)
  return type(value) == "table" and value ~= lyaml.null and value or {}
end

local function index_of(list, wanted)
  for i, value in ipairs(list) do
    if value == wanted then return i end
  end
end

--- Each edit: run changes the text, want the meaning; gone owns the comments that may go with it.
local EDITS = {
  function(w)
    local name = w.one_of("peer1", "peer9", "null", "no", "a.b-c", "12")
    return { what = "add_name " .. name,
      run = function(text) return edit.add_name(text, name, "12D3new") end,
      want = function(doc)
        doc.names = map_of(doc.names)
        if doc.names[name] then return false end
        doc.names[name] = "12D3new"
      end }
  end,
  function(w)
    local addr = w.one_of("/ip4/192.0.2.1/tcp/7777", "/ip4/203.0.113.9/tcp/1/p2p/X")
    return { what = "add_relay " .. addr,
      run = function(text) return edit.add_relay(text, addr) end,
      want = function(doc)
        doc.relay = map_of(doc.relay)
        local list = map_of(doc.relay.addresses)
        if not index_of(list, addr) then list[#list + 1] = addr end
        doc.relay.addresses = list
      end }
  end,
  function(w)
    local addr = ("/ip4/192.0.2.%d/tcp/7777"):format(w.roll(3))
    return { what = "remove_relay " .. addr, gone = ".relay.addresses." .. addr,
      run = function(text) return edit.remove_relay(text, addr) end,
      want = function(doc)
        local i = index_of(map_of(map_of(doc.relay).addresses), addr)
        if not i then return false end
        table.remove(doc.relay.addresses, i)
      end }
  end,
  function(w)
    local name = w.one_of("s1", "new")
    return { what = "add_service " .. name,
      run = function(text)
        return edit.add_service(text, name, { local_address = "localhost:99" })
      end,
      want = function(doc)
        doc.services = map_of(doc.services)
        if doc.services[name] then return false end
        doc.services[name] = { enabled = true, local_address = "localhost:99" }
      end }
  end,
  function(w)
    local name, on = "s" .. w.roll(3), w.chance(50)
    return { what = "set_service_enabled " .. name .. tostring(on),
      run = function(text) return edit.set_service_enabled(text, name, on) end,
      want = function(doc)
        local service = map_of(doc.services)[name]
        if not service then return false end
        service.enabled = on
      end }
  end,
  function(w)
    local name = "s" .. w.roll(3)
    return { what = "remove_service " .. name, gone = ".services." .. name,
      run = function(text) return edit.remove_service(text, name) end,
      want = function(doc)
        if not map_of(doc.services)[name] then return false end
        doc.services[name] = nil
      end }
  end,
}

local function lines_of(text)
  local list = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do list[#list + 1] = line end
  return list
end

--- Counts the lines of a that do not stand in b, in b's order.
local function lost_lines(a, b)
  local head, tail = 0, 0
  while head < #a and a[head + 1] == b[head + 1] do head = head + 1 end
  while tail < math.min(#a, #b) - head and a[#a - tail] == b[#b - tail] do tail = tail + 1 end
  a, b = table.move(a, head + 1, #a - tail, 1, {}), table.move(b, head + 1, #b - tail, 1, {})
  local longest = {} -- longest[j]: the longest common run of lines of a so far and b[1..j]
  for j = 0, #b do longest[j] = 0 end
  for i = 1, #a do
    local diagonal = 0
    for j = 1, #b do
      local above = longest[j]
      longest[j] = a[i] == b[j] and diagonal + 1 or math.max(above, longest[j - 1])
      diagonal = above
    end
  end
  return #a - longest[#b]
end

--- Says what is wrong with an edit; nil when nothing is.
local function fault(w, before, after, change, doc)
  local ok, got = pcall(lyaml.load, after)
  if not ok then return "no YAML any more: " .. tostring(got) end
  -- An empty collection and nothing mean the same in a config.
  local function tidy(value)
    if type(value) ~= "table" or value == lyaml.null then return value end
    for key, inner in pairs(value) do
      inner = tidy(inner)
      if inner == lyaml.null or type(inner) == "table" and next(inner) == nil then inner = nil end
      value[key] = inner
    end
    return value
  end
  local same = pcall(assert.same, tidy(doc), tidy(got))
  if not same then return "another meaning" end
  local at = 1
  for _, comment in ipairs(w.comments) do
    local found = after:find(comment.text, at, true)
    local may_go = change.gone and (comment.owner == change.gone
      or comment.owner:sub(1, #change.gone + 1) == change.gone .. ".")
    if found then at = found + 1
    elseif not may_go then return "a comment is lost or moved: " .. comment.text end
  end
  local old, new = lines_of(before), lines_of(after)
  if change.gone then
    if lost_lines(new, old) > 1 then return "other lines changed" end
  elseif lost_lines(old, new) > 1 then
    return "other lines changed"
  end
end

describe("edits of any layout", function()
  it("do what is wanted and nothing else, or are refused", function()
    local done, refused = 0, 0
    for seed = SEED, SEED + LAYOUTS - 1 do
      local w, text = layout(seed)
      for i = seed, seed + EDITS_EACH - 1 do
        local change = EDITS[i % #EDITS + 1](w)
        local doc = lyaml.load(text)
        local possible = change.want(doc) ~= false
        local after, problem = change.run(text)
        local wrong
        if after and possible then
          wrong = fault(w, text, after, change, doc)
          done = done + 1
        elseif after then
          if after ~= text then wrong = "changed although it could not be" end
        elseif tostring(problem) == "" or not problem.code then
          wrong = "refused without a reason"
        elseif possible then
          refused = refused + 1
        end
        if wrong then
          error(("PEERUP_TEST_SEED=%d, %s: %s\n--- before\n%s\n--- after\n%s"):format(seed,
            change.what, wrong, text, tostring(after)))
        end
      end
    end
    assert.is_true(refused / (done + refused) < MOST_REFUSED,
      ("%d refused, %d done"):format(refused, done))
    if os.getenv "PEERUP_TEST_SHOW" then print(done, refused) end
  end)
end)

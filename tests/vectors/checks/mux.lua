--- Checks of engine/mux: yamux.json.
local lib = require "lib"
local mux = require "peerup_probe".mux
local unhex, equal = lib.unhex, lib.equal

local HEADER = 12
local TYPES = { [0] = "data", "window_update", "ping", "go_away" }
local GO_MAX_PAYLOAD = 65524

local function frame(case)
  local bytes = unhex(case.bytes)
  local header = mux.frame_encode(case)
  equal("bytes", header .. unhex(case.payload), bytes)
  local got = mux.frame_decode(bytes)
  for _, name in ipairs { "version", "type", "flags", "stream", "length" } do
    equal(name, got[name], case[name])
  end
end

--- Bytes as the vectors write them: hex, or hex "+ N zero bytes".
local function expand(text)
  local start, zeros = text:match("^(%x+) %+ (%d+) zero bytes$")
  if not start then return unhex(text) end
  return unhex(start) .. ("\0"):rep(math.tointeger(tonumber(zeros)))
end

--- Cuts what was sent into frames: a list of { type =, stream =, bytes = }.
local function frames_of(bytes)
  local list, at = {}, 1
  while at <= #bytes do
    local f = mux.frame_decode(bytes:sub(at, at + HEADER - 1))
    local size = HEADER + (TYPES[f.type] == "data" and f.length or 0)
    list[#list + 1] = { type = TYPES[f.type], stream = f.stream, flags = f.flags,
      bytes = bytes:sub(at, at + size - 1) }
    equal("a whole frame's size", #list[#list].bytes, size)
    at = at + size
  end
  return list
end

--- What happens on each stream in order, as one string per stream; between streams no order holds.
local function by_stream(list)
  local streams = {}
  for _, f in ipairs(list) do
    streams[f.stream] = (streams[f.stream] or "") .. f.bytes
  end
  return streams
end

local function equal_streams(got, want)
  for id, bytes in pairs(want) do equal("stream " .. id, got[id] or "", bytes) end
  for id, bytes in pairs(got) do equal("stream " .. id, bytes, want[id] or "") end
end

-- What the server's application does, where it does not echo.
local MANNERS = {
  ["session: whole window read, window is given back"] = "read",
  ["session: whole window not read"] = "hold",
  ["session: data frame larger than the window"] = "hold",
}
-- What it does after the streams were accepted.
local DEEDS = {
  ["session: accepted stream is closed at once"] = function(s) s:close(1) end,
  ["session: accepted stream is reset with a code"] = function(s) s:reset(1, 0x1001) end,
}

local function session(case)
  local input = {}
  for i, text in ipairs(case.client_sends) do input[i] = expand(text) end
  input = table.concat(input)
  local want = {}
  for i, answer in ipairs(case.server_answers) do
    want[i] = { stream = answer.stream, bytes = expand(answer.bytes) }
  end
  for _, chunk in ipairs { 1, 2, 3, 5, 7, 11, 12, 13, 1000, 65536, #input } do
    if #input / chunk < 1000 then -- byte by byte only where it is not a window's worth
      local s = mux.yamux(false, MANNERS[case.name] or "echo", GO_MAX_PAYLOAD)
      local ok, err = 0, nil
      for at = 1, #input, chunk do
        ok, err = s:read(input:sub(at, at + chunk - 1))
        if not ok then break end
      end
      if DEEDS[case.name] then DEEDS[case.name](s) end
      equal("closes (" .. tostring(err) .. ")", not ok, case.server_closes_the_connection)
      local sent = s:sent()
      -- An echo in pieces as they came in is as good: compare the bytes that streams carry.
      if chunk == #input then
        equal_streams(by_stream(frames_of(sent)), by_stream(want))
      else
        local function essence(list)
          local kinds = {}
          for i, f in ipairs(frames_of(list)) do
            kinds[i] = { stream = f.stream,
              bytes = f.type == "data" and f.bytes:sub(HEADER + 1) or f.bytes }
          end
          return by_stream(kinds)
        end
        local all = {}
        for i, f in ipairs(want) do all[i] = f.bytes end
        equal_streams(essence(sent), essence(table.concat(all)))
      end
    end
  end
end

-- The captured client's deeds, done by ours; it answers one ping of the server's, as Go's did.
local CLIENTS = {
  ["open, write hi, close for writing, read to the end, close"] = function(s)
    local id = assert(s:open())
    assert(s:flush(id))
    assert(s:write(id, "hi"))
    assert(s:close_write(id))
  end,
  ["open, write 70000 bytes, reset: frames carry at most 65536-12 bytes"] = function(s)
    local id = assert(s:open())
    assert(s:flush(id))
    equal("bytes taken", s:write(id, ("\0"):rep(70000)), 70000)
    s:reset(id, 0)
  end,
  ["open, write, close the session with code 0x1006"] = function(s)
    local id = assert(s:open())
    assert(s:flush(id))
    assert(s:write(id, "x"))
    assert(s:go_away(0x1006))
  end,
}

local function client_capture(case)
  local deed = assert(CLIENTS[case.does], "no such deed: " .. case.does)
  local ours = mux.yamux(true, "read", GO_MAX_PAYLOAD)
  assert(ours:start())
  assert(ours:read(mux.frame_encode { version = 0, type = 2, flags = 1, stream = 0, length = 0 }))
  deed(ours)
  local captured, payload = {}, 0
  for i, f in ipairs(case.client_sends) do
    captured[i] = expand(f.bytes)
    local header = mux.frame_decode(captured[i])
    equal("type", TYPES[header.type], f.type)
    equal("stream", header.stream, f.stream)
    equal("length", header.length, f.length)
    if f.type == "data" then payload = payload + f.length end
  end
  equal("what the client sends", ours:sent(), table.concat(captured))
  -- And our server understands it.
  local server = mux.yamux(false, "read", GO_MAX_PAYLOAD)
  local last = case.client_sends[#case.client_sends]
  local ok, err = server:read(table.concat(captured))
  equal("ended by a go-away", err == "eof", last.type == "go_away")
  equal("ended", not ok, last.type == "go_away")
  local got, eof, there = server:got(1)
  equal("bytes read", got, payload)
  equal("end seen", eof, last.flags[1] == "FIN")
  equal("stream there", there, last.flags[1] == "FIN")
end

return { yamux = { frame = frame, session = session, client_capture = client_capture } }

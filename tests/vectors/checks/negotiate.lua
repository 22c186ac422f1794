--- Checks of engine/negotiate: multistream.json.
local lib = require "lib"
local negotiate = require "peerup_probe".negotiate
local unhex, equal = lib.unhex, lib.equal

local function token(case)
  local bytes = unhex(case.bytes)
  equal("token", negotiate.token(case.text), bytes)
  local text, used = negotiate.parse(bytes)
  equal("text", text, case.text)
  equal("bytes used", used, #bytes)
end

local function token_questionable(case)
  local text, err = negotiate.parse(unhex(case.bytes))
  lib.accepted("token", case.accepted, text, err)
  if case.text_hex then equal("text", text, unhex(case.text_hex)) end
end

--- A peer's bytes may arrive in any pieces: tries them all.
local function each_chunk(input, try)
  for chunk = 1, math.max(1, #input) do try(chunk) end
end

local function server(case)
  local input = unhex(case.client_sends)
  each_chunk(input, function(chunk)
    local sent, chosen, used, err = negotiate.listen(case.server_protocols, input, chunk)
    equal("sent", sent, unhex(case.server_sends))
    equal("chosen", chosen or "", case.chosen)
    if not err or chunk == 1 then -- a failed read does not tell how far it came
      equal("left", input:sub(used + 1), unhex(case.left_for_the_protocol))
    end
    equal("failed", err ~= nil, case.go_error ~= nil and case.go_error ~= "EOF")
  end)
end

local function client(case)
  local input = unhex(case.server_sends)
  each_chunk(input, function(chunk)
    local sent, chosen, _, err = negotiate.dial(case.offers, false, input, chunk)
    equal("sent", sent, unhex(case.client_sends))
    equal("chosen", chosen or "", case.chosen)
    equal("failed", err ~= nil, case.go_error ~= nil and case.go_error ~= "EOF")
  end)
end

--- Our lazy dialler sends what Go's does, and our listener copes with Go's.
local function lazy_client(case)
  local input, written = unhex(case.server_sends), unhex(case.client_first_write)
  local data = unhex(case.application_data)
  each_chunk(input, function(chunk)
    local sent, chosen, used, err = negotiate.dial({ case.protocol }, true, input, chunk)
    equal("first write", sent .. data, written)
    equal("failed", err ~= nil, case.go_error ~= nil and case.go_error ~= "EOF")
    equal("chosen", chosen, not err and case.protocol or nil)
    if not err then equal("data", input:sub(used + 1), unhex(case.application_reads)) end
  end)
  each_chunk(written, function(chunk)
    local sent, chosen, used = negotiate.listen({ case.protocol }, written, chunk)
    equal("chosen by the listener", chosen, case.protocol)
    equal("left by the listener", written:sub(used + 1), data)
    equal("sent by the listener", sent,
      negotiate.token("/multistream/1.0.0") .. negotiate.token(case.protocol))
  end)
end

return {
  multistream = {
    token = token, token_questionable = token_questionable,
    server = server, client = client, lazy_client = lazy_client,
  },
}

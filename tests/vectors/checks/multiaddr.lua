--- Checks of engine/multiaddr: multiaddr.json.
local lib = require "lib"
local multiaddr = require "peerup_probe".multiaddr

--- What the components say in the words of `GET /v1/paths`.
local function path_words(components, classes)
  local has = {}
  for _, c in ipairs(components) do has[c.name] = true end
  local transport = (has.quic or has["quic-v1"]) and "quic" or (has.ws or has.wss) and "websocket"
    or has.tcp and "tcp" or "unknown"
  return has.ip4 and "ipv4" or has.ip6 and "ipv6" or "unknown", transport,
    classes.is_relayed and "RELAYED" or "DIRECT"
end

local function text_and_bytes(case)
  local bytes = lib.unhex(case.bytes)
  lib.equal("bytes", assert(multiaddr.from_text(case.text)), bytes)
  lib.equal("text", assert(multiaddr.from_bytes(bytes)), case.text)
  local components = assert(multiaddr.components(bytes))
  lib.equal("number of components", #components, #case.components)
  local texts = {}
  for i, want in ipairs(case.components) do
    lib.equal("name", components[i].name, want.name)
    lib.equal("code", components[i].code, want.code)
    lib.equal("value of " .. want.name, components[i].value, lib.unhex(want.value_hex))
    local value = want.value_text:gsub("^/", "") -- a path brings its slash
    texts[i] = "/" .. want.name .. (#want.value_text > 0 and "/" .. value or "")
  end
  lib.equal("text of the components", case.text, table.concat(texts))
  local classes = multiaddr.classes(bytes)
  for _, name in ipairs { "is_loopback", "is_private", "is_public" } do
    lib.equal(name, classes[name], case[name])
  end
  local version, transport, path_type = path_words(components, classes)
  lib.equal("IP version", version, case.peerup_ip_version)
  lib.equal("transport", transport, case.peerup_transport)
  lib.equal("path type", path_type, case.peerup_path_type)
end

local function text_noncanonical(case)
  lib.equal("accepted", case.accepted, true)
  local bytes = assert(multiaddr.from_text(case.text))
  lib.equal("bytes", bytes, lib.unhex(case.bytes))
  lib.equal("canonical text", multiaddr.from_bytes(bytes), case.canonical)
end

local function text_questionable(case)
  lib.accepted("address", case.accepted, multiaddr.from_text(case.text))
end

local function bytes_questionable(case)
  local text, err = multiaddr.from_bytes(lib.unhex(case.bytes))
  lib.accepted("address", case.accepted, text, err)
  if case.accepted then lib.equal("text", text, case.text) end
end

return {
  multiaddr = {
    text_and_bytes = text_and_bytes,
    text_noncanonical = text_noncanonical,
    text_questionable = text_questionable,
    bytes_questionable = bytes_questionable,
  },
}

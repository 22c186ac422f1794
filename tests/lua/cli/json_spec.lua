--- `--json` of all commands: who shows something has it, standard output is JSON or nothing, and
-- the same state gives the same bytes, by text too. The commands are found, not listed.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local json = require "peerup.json"
local keys = require "peerup.authorized_keys"

local SHOWS = { "^list", "^show$", "^status$", "^validate$", "^info$", "^whoami$", "^version$",
  "^resolve$", "^peers$", "^services$", "^paths$", "^proxies$", "^ping$", "^traceroute$" }

local each = support.each_command

local function has_json(command)
  for _, option in ipairs(command.options or {}) do
    if option[1] == "json" then return true end
  end
  return false
end

--- A home in which every list has many entries, in no order.
local function home()
  local dir = support.dir()
  local names, services = { "\nnames:" }, { "\nservices:" }
  for i = 1, 30 do
    names[i + 1] = ("  n%d: %s"):format(i * 7 % 31, support.PEERS[i % 3 + 1])
    services[i + 1] = ("  s%d:\n    enabled: %s\n    local_address: localhost:%d"):format(
      i * 11 % 31, tostring(i % 2 == 0), i)
  end
  local _, base = support.node_home(dir, function(text)
    return (text:gsub("\nnames:[^\n]*", ""):gsub("\nservices:[^\n]*", ""))
      .. table.concat(names, "\n") .. table.concat(services, "\n") .. "\n"
  end)
  local text = ""
  for i, peer in ipairs(support.PEERS) do
    text = assert(keys.add(text, peer, "peer " .. i, { group = "g", invited_by = peer }))
  end
  assert(fs.write(base .. "/authorized_keys", text))
  assert(fs.write(dir.path .. "/relay.yaml",
    assert(fs.read(support.SOURCE .. "/examples/relay-server.yaml"))))
  assert(fs.write(dir.path .. "/relay_authorized_keys", text))
  return dir
end

--- What the program itself says, in a process of its own: its tables have an order of their own.
local function say(dir, words)
  local pipe = assert(io.popen(("cd %s && HOME=%s %s %s 2>&1"):format(dir.path, dir.path,
    os.getenv "PEERUP", words)))
  local out = pipe:read "a"
  pipe:close()
  return out
end

describe("--json", function()
  it("is there for all that shows something", function()
    local count = 0
    each(function(words, command)
      for _, pattern in ipairs(SHOWS) do
        if words[#words]:find(pattern) then
          count = count + 1
          assert.is_true(has_json(command), table.concat(words, " "))
        end
      end
    end)
    assert.is_true(count >= 20, count)
  end)

  it("leaves nothing but JSON on standard output", async(function()
    local empty <close> = support.dir()
    local full <close> = home()
    each(function(words, command)
      if not has_json(command) then return end
      local list = table.move(words, 1, #words, 1, {})
      for _, argument in ipairs(command.args or {}) do
        if not argument.optional then list[#list + 1] = "word" end
      end
      list[#list + 1] = "--json"
      for _, dir in ipairs { empty, full } do
        local _, out = support.run({ home = dir.path }, table.unpack(list))
        if out ~= "" then
          assert.is_not_nil(json.decode(out), table.concat(list, " ") .. ": " .. out)
          assert.equal("\n", out:sub(-1))
        end
      end
    end)
  end))

  it("and text are the same for the same state", function()
    local dir <close> = home()
    for _, words in ipairs { "status", "auth list", "service list", "relay list", "config show",
      "config validate", "auth validate", "whoami", "resolve n1", "version",
      "relay list-peers --config relay.yaml", "relay config validate --config relay.yaml" } do
      for _, flag in ipairs { "", " --json" } do
        local first = say(dir, words .. flag)
        if flag ~= "" then assert.is_not_nil(json.decode(first), words .. ": " .. first) end
        for _ = 1, 3 do assert.equal(first, say(dir, words .. flag)) end
      end
    end
  end)
end)

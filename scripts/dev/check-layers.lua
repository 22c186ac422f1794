-- Checks the rule of layers: an #include in engine/ may name only the file's own layer, one
-- below it, or the public headers; uv.h and lua.h appear only where they are allowed.
local order = { "platform", "base", "identity", "multiaddr", "security", "mux", "negotiate",
  "transport", "swarm", "protocols", "proxy" }
-- security, mux and negotiate are siblings: none knows another.
local level = { platform = 1, base = 2, identity = 3, multiaddr = 4, security = 5, mux = 5,
  negotiate = 5, transport = 6, swarm = 7, protocols = 8, proxy = 9 }

local faults, files = {}, 0

local function fault(path, line, text)
  faults[#faults + 1] = ("%s:%d: %s"):format(path, line, text)
end

local function check(path, layer)
  local number = 0
  files = files + 1
  for line in io.lines(path) do
    number = number + 1
    local name = line:match('^%s*#%s*include%s*["<]([^">]+)[">]')
    if name then
      local target = name:match("^([%w_]+)/")
      if name == "uv.h" and layer ~= "platform" then
        fault(path, number, "only engine/platform may include uv.h")
      elseif name:match("^lua") or name:match("^luv/") then
        fault(path, number, "engine/ knows no Lua")
      elseif level[target] and level[target] > level[layer] then
        fault(path, number, ("%s may not include %s, which lies above it"):format(layer, name))
      elseif level[target] and target ~= layer and level[target] == level[layer] then
        fault(path, number, ("%s and %s are siblings"):format(layer, target))
      end
    end
  end
end

for _, layer in ipairs(order) do
  local list = assert(io.popen(("ls engine/%s/*.c engine/%s/*.h 2>/dev/null"):format(layer, layer)))
  for path in list:lines() do
    check(path, layer)
  end
  list:close()
end

for _, text in ipairs(faults) do
  io.stderr:write(text, "\n")
end
print(("%d files, %d faults of layering"):format(files, #faults))
os.exit(#faults == 0 and files > 0)

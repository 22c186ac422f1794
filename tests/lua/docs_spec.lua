--- The documents against the program: every route, every key of the configuration with its default,
-- every message of the troubleshooting table, every relative link.
local fs = require "peerup.fs"
local schema = require "peerup.config.schema"
local uv = require "luv"
local values = require "peerup.config.values"

local SOURCE = os.getenv "PEERUP_SOURCE"

local function read(path) return assert(fs.read(fs.join(SOURCE, path))) end

--- All files below a folder whose names end so.
local function files(dir, ending, list)
  list = list or {}
  local scan = uv.fs_scandir(fs.join(SOURCE, dir))
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    if kind == "directory" then
      files(dir .. "/" .. name, ending, list)
    elseif name:sub(-#ending) == ending then
      list[#list + 1] = dir .. "/" .. name
    end
  end
  return list
end

--- The keys of a schema as the guide names them -> the default as it writes it.
local function keys_of(fields, prefix, out)
  for _, field in ipairs(fields) do
    local name = prefix .. field.name
    if field.name == "limits" then
      out.limits = ""
    elseif field.type == "section" then
      keys_of(field.fields, name .. ".", out)
    elseif field.type == "map" and field.each.type == "section" then
      keys_of(field.each.fields, name .. ".NAME.", out)
    elseif field.type == "map" then
      out[name .. ".NAME"] = ""
    else
      local default = field.default
      if field.type == "duration" then default = values.format_duration(default) end
      if field.type == "size" then default = (default // 1048576) .. "MB" end
      out[name] = field.type == "list" and "" or tostring(default)
    end
  end
  return out
end

local function documented_keys(section)
  local out = {}
  for line in section:gmatch "[^\n]+" do
    local key, default = line:match "^| `([^`]+)` | ?`?([^`|]-)`? ?| "
    if key then out[key] = default end
  end
  return out
end

describe("the documents", function()
  it("have every key of the configuration, with its default", function()
    local text = read "docs/guide.md"
    local node, relay = text:match "\n## The config\n(.-)\n### A relay's\n(.-)\n## "
    assert.same(keys_of(schema.node, "", {}), documented_keys(node))
    assert.same(keys_of(schema.relay, "", {}), documented_keys(relay))
  end)

  it("have every endpoint of the API, and no other", function()
    local want, got = {}, {}
    for route in pairs(require("peerup.daemon.routes").routes) do want[route] = true end
    for route in read("docs/api.md"):gmatch "\n### (%u+ /v1/[^ \n]+)" do got[route] = true end
    assert.same(want, got)
  end)

  it("say T where an endpoint has a form for people", function()
    local text = read "docs/api.md"
    for name, route in pairs(require("peerup.daemon.routes").routes) do
      local heading = "\n### " .. name .. (route.text and " (T)\n" or "\n")
      assert.is_truthy(text:find(heading, 1, true), heading)
    end
  end)

  it("have every type of event", function()
    local text = read("docs/api.md"):match "\n| type | data |\n(.-)\n\n"
    for _, name in ipairs(require("peerup.daemon.events").TYPES) do
      assert.is_truthy(text:find("`" .. name .. "`", 1, true), name)
    end
  end)

  it("quote messages that exist", function()
    local code = {}
    for _, dir in ipairs { "lua", "scripts", "engine" } do
      for _, ending in ipairs { ".lua", ".c", ".h" } do
        for _, path in ipairs(files(dir, ending)) do code[#code + 1] = read(path) end
      end
    end
    code = table.concat(code)
    local count = 0
    local section = read("docs/guide.md"):match "\n## When it does not work\n(.*)$"
    for message in section:gmatch "\n| `([^`]+)` |" do
      count = count + 1
      assert.is_truthy(code:find(message, 1, true), message)
    end
    assert.is_true(count >= 15)
  end)

  it("have every rough edge, and the test that shows it", function()
    local seen = {}
    for numbers, tests in read("docs/rough-edges.md"):gmatch "\n| ([%d, ]+) |[^\n]*| ([^|\n]+) |" do
      for number in numbers:gmatch "%d+" do seen[tonumber(number)] = true end
      for test in tests:gmatch "[^, ]+" do
        assert.is_truthy(uv.fs_stat(fs.join(SOURCE, "tests/" .. test)), test)
      end
    end
    for number = 1, 28 do assert.is_true(seen[number], number) end
  end)

  it("name commands that exist", function()
    local commands = {}
    for _, path in ipairs(files("scripts/commands", ".lua")) do
      commands[path:match "([%w-]+)%.lua$"] = true
    end
    for _, path in ipairs { "docs/guide.md", "docs/operations.md", "README.md" } do
      for word in read(path):gmatch "`peerup ([a-z]+)[ `]" do
        local is_known = commands[word] or word == "help" or word == "is" -- which is a message
        assert.is_truthy(is_known, path .. ": peerup " .. word)
      end
    end
  end)

  it("link to files and headings that exist", function()
    local pages = files("docs", ".md")
    for _, page in ipairs { "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md" } do
      pages[#pages + 1] = page
    end
    for _, page in ipairs(pages) do
      local dir = page:match "^(.*)/[^/]*$" or "."
      for target in read(page):gmatch "%]%(([^)]+)%)" do
        if not target:find "^%a+:" then
          local file, anchor = target:match "^([^#]*)#?(.*)$"
          local path = file == "" and page or dir .. "/" .. file
          assert.is_truthy(uv.fs_stat(fs.join(SOURCE, path)), page .. " links to " .. target)
          if anchor ~= "" then
            local found = false
            for heading in ("\n" .. read(path)):gmatch "\n#+ ([^\n]+)" do
              local slug = heading:lower():gsub("[^%w%- ]", ""):gsub(" ", "-")
              found = found or slug == anchor
            end
            assert.is_true(found, page .. " links to " .. target)
          end
        end
      end
    end
  end)
end)

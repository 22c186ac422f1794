local core = require "peerup.core"

-- No call may hold the caller longer (seconds of processor time), whatever it does.
local HOLD_MAX = 0.010

--- Loads source, the body of a chunk that returns a table, into a new box.
local function load(source, options)
  local box = assert(core.sandbox.new(options or {}))
  local ref, err = box:load(source, "hook.lua", options and options.host ~= nil)
  assert(ref, ref == false and err.detail ~= "" and err.detail or tostring(err))
  return box, ref
end

--- Calls body as a function: what box:call returns.
local function call(body, ...)
  local box, ref = load("return {f = function(...) " .. body .. " end}")
  return box:call(ref, "f", ...)
end

--- Calls body some times in the same box, and returns the shortest processor time and the last
--- answer. The machine may be busy: only the shortest says what the call itself takes.
local function timed(body, options)
  local box, ref = load("local big = ('a'):rep(60000)\nreturn {f = function(...) " .. body
    .. " end}", options)
  local least, ok, what = math.huge, nil, nil
  for _ = 1, 4 do
    local began = os.clock()
    ok, what = box:call(ref, "f")
    least = math.min(least, os.clock() - began)
  end
  return least, ok, what, box, ref
end

describe("core.sandbox", function()
  it("computes, and copies values in and out", function()
    local ok, a, b, c, d = call("return ...", 1, 2.5, "x\0y", { k = { true, false } })
    assert.is_true(ok)
    assert.equal("integer", math.type(a))
    assert.same({ 1, 2.5, "x\0y", { k = { true, false } } }, { a, b, c, d })
  end)

  it("knows standard things", function()
    for body, wanted in pairs {
      ["return '10' + 1"] = 11,
      ["return ('abc'):upper()"] = "ABC",
      ["return ('%5.2f|%s|%q'):format(1, 'a', 'b')"] = " 1.00|a|\"b\"",
      ["local t = {3, 1, 2} table.sort(t) return table.concat(t, ',')"] = "1,2,3",
      ["local t = {3, 1, 2} table.sort(t, function(a, b) return a > b end) return t[1]"] = 3,
      ["local n = 0 for k, v in ('a=1,b=2'):gmatch('(%w)=(%w)') do n = n + v end return n"] = 3,
      ["return (('hello'):gsub('l', function(c) return c:upper() end))"] = "heLLo",
      ["return (('hello'):gsub('l', {l = 'L'}))"] = "heLLo",
      ["return tostring(nil) .. tostring(1) .. tostring(true)"] = "nil1true",
      ["return select('#', table.unpack({1, 2, 3}))"] = 3,
      ["local C = {} C.__index = C function C.x() return 7 end return setmetatable({}, C).x()"]
        = 7,
      ["local m = {__add = function() return 5 end} return setmetatable({}, m) + 1"] = 5,
      ["return tostring(setmetatable({}, {__tostring = function() return 'me' end}))"] = "me",
      ["return getmetatable(setmetatable({}, {a = 9})).a"] = 9,
      ["return getmetatable(setmetatable({}, {__metatable = 'no'}))"] = "no",
      ["return select(2, pcall(setmetatable, setmetatable({}, {__metatable = 1}), {}))"]
        = "cannot change a protected metatable",
      ["local ok, e = xpcall(error, function(m) return m .. '!' end, 'x', 0) return e"] = "x!",
      ["return select('#', xpcall(select, error, 2, 1, 2, 3))"] = 3,
      ["goto a do ::b:: return 1 end ::a:: return 2"] = 2,
    } do
      local ok, result = call(body)
      assert.is_true(ok, body .. ": " .. tostring(result))
      assert.equal(wanted, result, body)
    end
  end)

  it("reports a failure with its place", function()
    local box, ref = load("return {\n f = function() local x = nil; return x.y end}")
    local ok, err = box:call(ref, "f")
    assert.is_false(ok)
    assert.equal("script_failed", err.code)
    assert.matches("hook.lua:2:", err.message)
    ok, err = box:call(ref, "none")
    assert.is_false(ok)
    assert.matches("no function none", err.message)
  end)

  it("tells what is in a table, and refuses what is none", function()
    local box = core.sandbox.new {}
    local ref, names = box:load("return {a = print, f = function() end, n = 1}", "x")
    assert.is_number(ref)
    assert.same({ f = "function", n = "number" }, names)
    for _, source in ipairs { "return 1", "return", "syntax error", "error({})", "error()",
      "return {" } do
      local no, err = box:load(source, "x")
      assert.is_false(no)
      assert.equal("script_failed", err.code)
    end
    local again = box:load("return {}", "x")
    assert.is_number(again)
  end)
end)

describe("what stands inside", function()
  it("is no more than the list", function()
    local ok, names = call([[
      local list = {}
      local function walk(t, prefix)
        for k, v in pairs(t) do
          if v ~= _G then
            list[#list + 1] = prefix .. k
            if type(v) == "table" then walk(v, prefix .. k .. ".") end
          end
        end
      end
      walk(_G, "")
      return list]])
    assert.is_true(ok)
    table.sort(names)
    local text = table.concat(names, " ")
    for _, name in ipairs { "load", "loadstring", "loadfile", "dofile", "require", "package", "io",
      "os", "debug", "coroutine", "collectgarbage", "print", "warn", "string.dump", "host",
      "newproxy", "module" } do
      assert.is_nil((" " .. text .. " "):find(" " .. name .. " ", 1, true), name)
    end
    assert.equal(86, #names, text)
  end)

  it("is not our Lua", function()
    local ok = call("string.format = nil; table.insert = nil; math.floor = nil; return 1")
    assert.is_true(ok)
    assert.equal("1", ("%d"):format(1))
    assert.equal(1, math.floor(1.5))
  end)

  it("does not show addresses", function()
    for _, body in ipairs {
      "return tostring({})", "return tostring(print)", "return tostring(pcall)",
      "return ('%s %s'):format({}, pcall)",
      "return select(2, pcall(error, tostring(function() end)))",
      "return (table.concat({tostring(math), tostring(_G)}))",
      "return tostring(setmetatable({}, {__name = 'x'}))",
    } do
      local ok, text = call(body)
      assert.is_true(ok, body)
      assert.is_nil(text:find("0x", 1, true), body)
    end
    for _, body in ipairs { "return ('%p'):format({})", "return ('%%%-20p'):format({})",
      "return math.randomseed()" } do
      assert.is_false((call(body)), body)
    end
    local _, n = call("return select('#', math.randomseed(1))")
    assert.equal(0, n)
  end)

  it("has no way to bytecode, to strings' metatable, to the registry", function()
    local box = core.sandbox.new {}
    local no, err = box:load(string.dump(function() return {} end), "x")
    assert.is_false(no)
    assert.matches("attempt to load a binary chunk", err.message)
    local ok, mt = call("return getmetatable('')")
    assert.is_true(ok)
    assert.is_false(mt)
    assert.is_false((call("setmetatable('', {})")))
    assert.is_false((call("('').x.y = 1")))
    ok = call("setmetatable(_G, {__index = function(_, k) return k end}) return foo")
    assert.is_true(ok)
    ok = call("local _ENV = {} x = 1 return x")
    assert.is_true(ok)
  end)

  it("has no finalizers, weak tables, or tables that are called through tables", function()
    for _, body in ipairs {
      "setmetatable({}, {__gc = function() end})",
      "setmetatable({}, {__gc = true})",
      "setmetatable({}, {__mode = 'k'})",
      "local t = {} setmetatable(t, {__call = t})",
      "setmetatable({}, setmetatable({__gc = 1}, {__index = {}}))",
    } do
      local ok, err = call(body)
      assert.is_false(ok, body)
      assert.equal("script_failed", err.code)
    end
    -- Put in later, they have no effect.
    local least, ok, err = timed([[
      local t, m = {}, {__call = function() return 1 end}
      setmetatable(t, m)
      m.__call = t
      m.__gc = function() while true do end end
      m.__mode = "k"
      return t() ]])
    assert.is_true(ok, tostring(err))
    assert.is_true(least < HOLD_MAX)
  end)
end)

describe("a budget", function()
  --- Every body runs over: its call ends in time, with a limit or a failure, and so it does again.
  local function ends(title, bodies, wanted)
    for i, body in ipairs(bodies) do
      it(("%s (%d)"):format(title, i), function()
        local least, ok, err, box, ref = timed(body)
        assert.is_false(ok, body)
        assert.is_true(least < HOLD_MAX, ("%.1f ms: %s"):format(least * 1000, body))
        if wanted then
          assert.equal(wanted, err.code, body .. ": " .. err.message)
        end
        assert.is_true(box:stats().memory_peak <= box:stats().memory_limit + 16384)
        box:close()
        local _ = ref
      end)
    end
  end

  ends("ends loops", {
    "while true do end",
    "repeat until false",
    "for i = 1, math.huge do end",
    "::a:: goto a",
    "local function f() return f() end return f()",
    "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) "
      .. "while true do local _ = pcall(function() return t[1] end) end",
    "for _ in function() return 1 end do end",
    "local t = setmetatable({}, {__lt = function() return true end}) while t < t do end",
    "local t = setmetatable({}, {__eq = function() while true do end end}) return t == {}",
    "local t = setmetatable({}, {__concat = function() while true do end end}) return t .. t",
    "local t = setmetatable({}, {__close = function() while true do end end}) "
      .. "do local x <close> = t end",
    "local t = setmetatable({}, {__close = function() while true do end end}) "
      .. "do local x <close> = t error('x') end",
    "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
    "return ('%s'):format(setmetatable({}, {__tostring = function() while true do end end}))",
    "for _ in pairs(setmetatable({}, {__pairs = function() while true do end end})) do end",
    "for _ in ipairs(setmetatable({}, {__index = function() return 1 end})) do end",
  }, "limit")

  ends("cannot be caught", {
    "while true do pcall(function() while true do end end) end",
    "pcall(function() while true do end end) return 1",
    "xpcall(function() while true do end end, function() while true do end end)",
    "xpcall(function() while true do end end, function() return 1 end) while true do end",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "local function f() pcall(f) while true do pcall(f) end end f()",
    "local function f() xpcall(f, f) f() end f()",
    "local t = setmetatable({}, {__close = function() while true do end end}) "
      .. "pcall(function() local x <close> = t while true do end end) while true do end",
    "local function g() local x <close> = setmetatable({}, {__close = g}) while true do end end "
      .. "g()",
    "return pcall(pcall, pcall, pcall, function() while true do end end)",
    "local ok, e = pcall(function() while true do end end) error(e, 0)",
    "local ok, e = pcall(function() while true do end end) error({})",
    "pcall(string.rep, 'x', 1e9) while true do pcall(string.rep, 'x', 65536) end",
    "local t = {} while true do pcall(function() for i = 1, 1e9 do t[i] = i end end) end",
  }, "limit")

  ends("ends recursion", {
    "local function f() return 1 + f() end return f()",
    "local function f(...) return f(1, ...) end return f()",
    "local t = {} t = setmetatable(t, {__index = function(_, k) return t[k] end}) return t.x",
    "local function f() return (('x'):gsub('x', f)) end return f()",
    "local function f() table.sort({1, 2, 3}, f) end f()",
    "local t = {} setmetatable(t, {__tostring = function() return tostring(t) end}) "
      .. "return tostring(t)",
    "local t = {} setmetatable(t, {__index = t}) return t.x",
    "local t = setmetatable({}, {__index = _G}) setmetatable(_G, {__index = t}) return nothing",
    "local f = pcall for i = 1, 300 do local g = f f = function() return select(2, g(g)) end "
      .. "end return f() .. nil",
  })

  ends("ends what eats memory", {
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local s = 'x' while true do s = s .. s end",
    "local s = 'x' while true do s = s .. 'x' .. #s end",
    "local t = {} while true do t = {t} end",
    "local t = {} while true do t[#t + 1] = {} end",
    "local t = {} while true do t[#t + 1] = function() return t end end",
    "local t = {} for i = 1, 1e9 do t['k' .. i] = i end",
    "return big .. big .. big",
    "return ('x'):rep(1e9)",
    "return ('x'):rep(1e9, 'yyyyyyyy')",
    "return ('x'):rep(math.maxinteger)",
    "return (''):rep(1e15, 'x')",
    "return ('x'):rep(70000)",
    "local t = {} for i = 1, 100 do t[i] = big end return table.concat(t)",
    "return table.concat({}, big, 1, 1e9)",
    "return (big:gsub('a', big))",
    "return string.pack('c2000000000', '')",
    "return string.pack('c900000', '')",
    "return (('%s'):rep(200)):format(big, big, big, big, big)",
    "return string.char(table.unpack({}, 1, 1e7))",
    "return big:byte(1, -1)",
    "return utf8.char(table.unpack({}, 1, 1e8))",
    "return utf8.codepoint(big, 1, -1)",
    "local t = {} for i = 1, 4000 do t[i] = big .. i end",
    "while true do local s = big .. 'x' end",
  })

  ends("ends what C would do without instructions", {
    "for i = 1, 1e9 do local _ = (big .. i):upper() end",
    "for i = 1, 1e9 do local _ = utf8.len(big) end",
    "for i = 1, 1e9 do local _ = big:find('b', 1, true) end",
    "for i = 1, 1e9 do local _ = ('0x' .. big) == big end",
    "local z = ('\\0'):rep(60000) local a, b = z .. 'a', z .. 'b' while true do "
      .. ("if a < b then end "):rep(50) .. "end",
    "local z = ('\\0'):rep(60000) local y, t = z .. 'a', {} for i = 1, 4000 do "
      .. "t[i] = i % 2 == 0 and z or y end table.sort(t)",
    "local t = {} for i = 1, 8000 do t[i] = {} end table.sort(t, pcall)",
    "local t = {} for i = 1, 8000 do t[i] = i end table.sort(t, function() while true do end end)",
    "local t = {} for i = 1, 8000 do t[i] = i end for i = 1, 1e9 do table.sort(t) end",
    "local t = {} for i = 1, 8000 do t[i] = i end for i = 1, 1e9 do table.insert(t, 1, 1) "
      .. "table.remove(t, 1) end",
    "local t = {} for i = 1, 1e9 do table.move({1, 2}, 1, 60000, 1, t) end",
    "while true do big:gsub('a', pcall) end",
    "local t = {} for i = 1, 9000 do t[i * 8191] = i end while true do end",
    "local t = {} for i = 1, 4000 do t[i * 4095] = i end while true do "
      .. "for i = 1, 4000 do t[i * 4095] = i end end",
    "while true do local _ = big:gsub('a', string.upper) end",
    "while true do local s = ('x'):rep(1000) s:gsub('x', '%0%0%0') end",
    "while true do string.packsize(('x'):rep(60000)) end",
    "local t = {} for i = 1, 8000 do t[i] = i end for i = 1, 8000 do t[i] = nil end "
      .. "while true do next(t) end",
    "local n = ('0'):rep(60000) while true do local _ = n + 1 end",
    "local g = {} for i = 1, 100 do g[i] = ('a'):rep(500):gmatch('a-b') end "
      .. "while true do for i = 1, 100 do g[i]() end end",
    "local t = {} for i = 1, 1990 do t = setmetatable({}, {__index = t}) end "
      .. "while true do local _ = t.x end",
  }, "limit")

  ends("refuses patterns that take long", {
    "return big:find('a-b')", "return big:find('.-.-.-.-b')", "return big:find('.*.*b')",
    "return big:match('(.-)%1b')", "return big:match('(a*)%1%1b')", "return big:find('%b()')",
    "return big:gsub('.-.-.-b', '', 5)", "return big:gsub('a-b', '', 1)",
    "return big:match('.-.-.-b', 1, true)", "return big:gmatch('.-.-b', 1, true)",
    "for _ in (('^'):rep(5000)):gmatch('^.-.-b') do end",
    "return ('a'):rep(100):find(('a?'):rep(100) .. ('a'):rep(100))",
    "return big:find(('a'):rep(250) .. '[b]')",
    "return big:find(('[%a%d%s]'):rep(30) .. 'b')",
    "return big:find('[' .. ('b'):rep(250) .. ']')",
    "return big:find(('a'):rep(300))",
    "return ('('):rep(100):rep(600):find(('('):rep(100))",
    "return big:find('[a')", "return big:find('%')", "return big:find('%f')",
  }, "script_failed")

  for i, body in ipairs {
    "for i = 1, 1e9 do ('a'):rep(500):find('a-b') end",
    "for i = 1, 1e9 do ('a'):rep(100):find('a-a-b') end",
    "for i = 1, 1e9 do ('a'):rep(40):find('^a-a-a-a-b') end",
    "for i = 1, 1e9 do ('a'):rep(2000):find(('a'):rep(200) .. '[b]') end",
    "for i = 1, 1e9 do ('a'):rep(240):find('(a*)%1b') end",
  } do
    it(("ends many patterns of some length (%d)"):format(i), function()
      local least, ok, err = timed(body)
      assert.is_false(ok)
      assert.equal("limit", err.code)
      assert.is_true(least < HOLD_MAX, ("%.1f ms: %s"):format(least * 1000, body))
    end)
  end

  ends("refuses ranges that are too large", {
    "return table.unpack({}, 1, 1e8)", "return table.unpack({}, math.mininteger, math.maxinteger)",
    "return table.move({}, 1, math.maxinteger, 2)", "return table.concat({}, '', 1, 1e9)",
    "return table.move({}, 1, 1e8, 1, setmetatable({}, {__newindex = function() end}))",
    "table.sort(setmetatable({}, {__len = function() return 1e9 end}))",
    "table.insert(setmetatable({}, {__len = function() return 1e9 end}), 1, 1)",
    "return table.concat(setmetatable({}, {__index = function() return 'x' end}), '', 1, 1e9)",
    "table.sort({3, 1, 2, 5, 4}, 1)", "table.sort({1, 'a'})",
    "return ('%99999d'):format(1)", "return ('%.999f'):format(1)",
  }, "script_failed")

  it("stands comparators without order, and formats of any width", function()
    for _, body in ipairs {
      "local t = {} for i = 1, 500 do t[i] = i end "
        .. "pcall(table.sort, t, function() return true end)",
      "local t = {} for i = 1, 500 do t[i] = i end "
        .. "pcall(table.sort, t, function(a) t[a] = nil return a < 3 end)",
      "return ('%99d'):format(1), ('%99.99f'):format(1e308)",
      "return pcall(string.format, '%d', 'x'), pcall(string.format, '%', 1)",
      "return select(-1, 1), pcall(select, -5, 1)",
    } do
      local least, ok, err = timed(body)
      assert.is_true(ok, body .. tostring(err))
      assert.is_true(least < HOLD_MAX)
    end
  end)

  it("is new for each call, and the state goes on", function()
    local box, ref = load("local n = 0 return {spin = function() n = n + 1 while true do end end, "
      .. "get = function() return n end}")
    for i = 1, 3 do
      local ok, err = box:call(ref, "spin")
      assert.is_false(ok)
      assert.equal("limit", err.code)
      assert.matches("hook.lua:1: ran over its budget", err.message)
      assert.same({ true, i }, { box:call(ref, "get") })
    end
    assert.equal(3, box:stats().failures)
  end)

  it("ends the call with processor time, too", function()
    local least, ok, err = timed("while true do end", { instructions = 1 << 40 })
    assert.is_false(ok)
    assert.matches("budget of time", err.message)
    assert.is_true(least >= 0.003 and least < HOLD_MAX)
  end)

  it("holds for large states and long strings", function()
    for _, body in ipairs {
      "t = t or {} for i = #t + 1, #t + 20000 do t[i] = i end while true do end",
      "local t = {} for i = 1, 5000 do t[i] = i end "
        .. "return select('#', table.unpack(t, 1, 4000)) + {}",
      "w = w or {} for i = 1, 30000 do w[{}] = i end for k in pairs(w) do w[k] = nil end "
        .. "while true do next(w) end",
    } do
      local least, ok = timed(body, { memory = 4 << 20, instructions = 1 << 30 })
      assert.is_false(ok)
      assert.is_true(least < HOLD_MAX, ("%.1f ms: %s"):format(least * 1000, body))
    end
  end)

  it("holds for the parser", function()
    local depth = {}
    for _, pair in ipairs { { "(", ")" }, { "{", "}" }, { "do ", " end" }, { "-", "" },
      { "function() return ", " end" }, { "if 1 then ", " end" }, { "not ", "" } } do
      local value = pair[1]:find "do" or pair[1]:find "if"
      depth[#depth + 1] = (value and "" or "return ") .. pair[1]:rep(20000)
        .. (value and "" or "1") .. pair[2]:rep(20000)
    end
    local locals, upvalues, names, labels = {}, {}, {}, {}
    for i = 1, 300 do
      locals[i] = "local a" .. i .. " = " .. i
      upvalues[i] = "a" .. i
    end
    for i = 1, 12000 do
      names[i] = ("x%d = %d.5"):format(i, i)
      labels[i] = ("goto g%d ::l%d::"):format(i, i)
    end
    depth[#depth + 1] = table.concat(locals, "\n")
    depth[#depth + 1] = "local function f() local " .. table.concat(upvalues, ",")
      .. " return function() return " .. table.concat(upvalues, "+") .. " end end"
    depth[#depth + 1] = table.concat(names, "\n")
    depth[#depth + 1] = table.concat(labels, "\n")
    depth[#depth + 1] = "return {" .. ("1,"):rep(100000) .. "}"
    depth[#depth + 1] = "return '" .. ("\\z "):rep(60000) .. "'"
    depth[#depth + 1] = "--[==[" .. ("]="):rep(100000)
    depth[#depth + 1] = "return " .. ("9"):rep(200000)
    depth[#depth + 1] = "local _ENV <const> = {}; x = 1; return x"
    depth[#depth + 1] = "local x <close> = 1"
    depth[#depth + 1] = "return " .. ("'a'.."):rep(30000) .. "'b'"
    depth[#depth + 1] = (" "):rep(1 << 20)
    for i, source in ipairs(depth) do
      local least, no, err = math.huge, nil, nil
      for _ = 1, 3 do
        local box = core.sandbox.new {}
        local began = os.clock()
        no, err = box:load(source, "x")
        least = math.min(least, os.clock() - began)
        box:close()
      end
      assert.is_false(no, i .. ": " .. source:sub(1, 40))
      assert.is_true(err.code == "limit" or err.code == "script_failed")
      assert.is_true(least < HOLD_MAX, ("%d: %.1f ms: %s"):format(i, least * 1000,
        source:sub(1, 40)))
    end
  end)

  it("does not grow", function()
    local box, ref = load("return {f = function(a) return {a, #a} end, "
      .. "bad = function() error({}) end}")
    for _ = 1, 200 do
      box:call(ref, "f", "x")
      box:call(ref, "bad")
    end
    local before = box:stats().memory_peak
    for _ = 1, 5000 do
      box:call(ref, "f", "x")
      box:call(ref, "bad")
    end
    assert.is_true(box:stats().memory_peak < before + 65536)
  end)

  it("has room for tables of some size", function()
    local box, ref = load("return {f = function() local t, l, n = {}, {}, 0 "
      .. "for i = 1, 4096 do t['k' .. i] = i end for _ in pairs(t) do n = n + 1 end "
      .. "for i = 1, 20000 do l[i] = i end return n, #l end}", { milliseconds = 1000 })
    assert.same({ true, 4096, 20000 }, { box:call(ref, "f") })
  end)

  it("holds for large tables whose keys collide", function()
    local least, ok, err = timed("local t = {} for i = 1, 30000 do t[i * 32767] = i end",
      { memory = 4 << 20, instructions = 1 << 30 })
    assert.is_false(ok)
    assert.equal("limit", err.code)
    assert.is_true(least < HOLD_MAX, ("%.1f ms"):format(least * 1000))
  end)

  it("collects before it refuses", function()
    local box, ref = load("return {f = function(i) return #(('x'):rep(40000) .. i) end}")
    for i = 1, 300 do
      assert.is_true((box:call(ref, "f", i)))
    end
  end)

  it("may be too small for a state, wherever it ends", function()
    local made = 0
    for bytes = 1, 60000, 97 do
      local box, err = core.sandbox.new { memory = bytes }
      if box then
        made = made + 1
        local ref, why = box:load("local t = {} for i = 1, 50 do t[i] = {i, 'k' .. i} end "
          .. "return {f = function(x) return {x, x .. 'y', {#t}} end}", "x")
        if ref then
          local ok, what = box:call(ref, "f", "abc")
          assert.is_true(ok or what.code == "limit")
        else
          assert.is_true(why.code == "limit" or why.code == "script_failed")
        end
        box:close()
      else
        assert.equal("limit", err.code)
      end
    end
    assert.is_true(made > 10)
  end)
end)

describe("what comes out", function()
  it("is plain, whatever it was", function()
    local ok, t = call([[
      local boom = function() error("ran outside") end
      return setmetatable({1, a = setmetatable({2}, {__index = boom})}, {__index = boom,
        __pairs = boom, __len = boom, __tostring = boom, __name = "peerup.host", __eq = boom,
        __close = boom, __metatable = "no"})]])
    assert.is_true(ok)
    assert.is_nil(getmetatable(t))
    assert.is_nil(getmetatable(t.a))
    assert.same({ 1, a = { 2 } }, t)
    assert.is_nil(t.nothing)
  end)

  it("is never a function, nor endless, nor more than a little", function()
    for _, body in ipairs {
      "return function() end", "return {pcall}", "return {[pcall] = 1}",
      "local t = {} t.t = t return t", "local t = {} t[t] = t return t",
      "local t = {} for i = 1, 20 do t = {t} end return t",
      "local t = {} for i = 1, 7 do t = {t, t, t, t, t, t, t, t} end return t",
      "local s, t = ('x'):rep(60000), {} for i = 1, 4000 do t[i] = s end return t",
      "local t = {} for i = 1, 5000 do t[i] = i end return t",
      "return 1, 2, 3, 4, 5, 6, 7, 8, 9",
    } do
      local least, ok, err, box, ref = timed(body)
      assert.is_false(ok, body)
      assert.equal("script_failed", err.code)
      assert.is_true(least < HOLD_MAX)
      assert.is_false((box:call(ref, "f")))
    end
  end)

  it("may be an error of any kind", function()
    for body, wanted in pairs {
      ["error({})"] = "no text but a table",
      ["error()"] = "no text but a nil",
      ["error(pcall)"] = "no text but a function",
      ["error(1)"] = "no text but a number",
      ["error(setmetatable({}, {__tostring = function() return 'x' end}))"] = "but a table",
      ["error('a\\nb\\27[31mc')"] = "a b %[31mc",
      ["error(('x'):rep(60000))"] = "xxx",
      ["local x <close> = setmetatable({}, {__close = function() error('second') end}) error(1)"]
        = "second",
    } do
      local ok, err = call(body)
      assert.is_false(ok)
      assert.equal("script_failed", err.code)
      assert.matches(wanted, err.message)
      assert.is_true(#err.message < 700)
    end
  end)

  it("does not come in either", function()
    local box, ref = load "return {f = function(...) return select('#', ...) end}"
    local cyclic = {}
    cyclic.me = cyclic
    for _, bad in ipairs { cyclic, print, io.stdout, coroutine.create(print), { { print } } } do
      local ok, err = box:call(ref, "f", bad)
      assert.is_false(ok)
      assert.equal("script_failed", err.code)
    end
    local ok, err = box:call(ref, "f", ("x"):rep(100000))
    assert.is_false(ok)
    assert.equal("limit", err.code)
    local touched = false
    local trap = setmetatable({ 1 }, { __index = function() touched = true end,
      __pairs = function() touched = true end })
    assert.same({ true, 1 }, { box:call(ref, "f", trap) })
    assert.is_false(touched)
  end)
end)

describe("host", function()
  it("is called with copies and answers with copies", function()
    local box, ref = load("local host = ... return {f = function(x) return host('k', {x}) end}",
      { host = function(k, t) return k .. t[1], { t } end })
    assert.same({ true, "k5", { { 5 } } }, { box:call(ref, "f", 5) })
  end)

  it("is only there when it was asked for", function()
    local box = core.sandbox.new { host = print }
    local ref = box:load("local host = ... return {f = function() return host == nil end}", "x")
    assert.same({ true, true }, { box:call(ref, "f") })
    local bare = core.sandbox.new {}
    ref = bare:load("local host = ... return {f = function() return pcall(host, 1) end}", "x", true)
    local ok, good = bare:call(ref, "f")
    assert.is_true(ok)
    assert.is_false(good)
  end)

  it("may fail, wait or answer with anything: the inside sees an error", function()
    for _, host in ipairs {
      function() error("text") end, function() error({}) end, function() error() end,
      function() return print end, function() return ("x"):rep(1000000) end,
      function() core.task.sleep(0.01) end, function() coroutine.yield() end,
      function() local t = {} t.t = t return t end,
    } do
      local box, ref = load("local host = ... return {f = function() local ok, e = pcall(host) "
        .. "return ok, type(e) end}", { host = host })
      local ok, good, kind = box:call(ref, "f")
      if ok then
        assert.is_false(good)
        assert.equal("string", kind)
      else
        assert.equal("limit", good.code)
      end
      box:close()
    end
  end)

  it("leaves nothing behind when its answer cannot be copied", function()
    local calls, first, last = 0, nil, nil
    local box, ref = load("local host = ... return {f = function() for _ = 1, 200 do pcall(host) "
      .. "end end}", { milliseconds = 5000, host = function()
        calls = calls + 1
        if calls == 2 or calls == 200 then
          collectgarbage()
          first, last = first or collectgarbage "count", collectgarbage "count"
        end
        return ("x"):rep(30000) .. calls, print
      end })
    assert.is_true((box:call(ref, "f")))
    assert.equal(200, calls)
    assert.is_true(last - first < 1000, ("%.0f KiB"):format(last - first))
  end)

  it("cannot enter or close the sandbox that asks", function()
    local box, ref, seen
    box, ref = load("local host = ... return {f = function() host() return 1 end}", {
      host = function()
        local ok, err = box:call(ref, "f")
        local no, err2 = box:load("return {}", "x")
        seen = { ok, err.code, no, err2.code, (pcall(box.close, box)) }
        collectgarbage()
      end })
    assert.same({ true, 1 }, { box:call(ref, "f") })
    assert.same({ false, "again", false, "again", false }, seen)
    assert.equal(1, select(2, box:call(ref, "f")))
  end)

  it("may enter another", function()
    local inner, r = load "return {f = function() while true do end end}"
    local box, ref = load("local host = ... return {f = function() return host() end}",
      { host = function() return (inner:call(r, "f")) end, milliseconds = 100 })
    assert.same({ true, false }, { box:call(ref, "f") })
  end)
end)

describe("a sandbox", function()
  it("is of no use after close", function()
    local box, ref = load "return {f = function() end}"
    box:close()
    box:close()
    local ok, err = box:call(ref, "f")
    assert.is_false(ok)
    assert.equal("closed", err.code)
    ok, err = box:load("return {}", "x")
    assert.is_false(ok)
    assert.equal("closed", err.code)
    ok, err = box:stats()
    assert.is_nil(ok)
    assert.equal("closed", err.code)
  end)

  it("refuses what is no option, no table, no number", function()
    for _, options in ipairs { { memory = -1 }, { memory = 5 << 20 }, { milliseconds = 1e9 },
      { instructions = "x" }, { host = 1 } } do
      assert.has_error(function() core.sandbox.new(options) end)
    end
    local box = core.sandbox.new {}
    assert.has_error(function() box:call("x", "f") end)
    assert.has_error(function() box:call(1) end)
    assert.has_error(function() box:load() end)
    for _, ref in ipairs { 0, 1, 2, 3, -1, 1000, math.maxinteger, math.mininteger } do
      local ok, err = box:call(ref, "f")
      assert.is_false(ok)
      assert.equal("script_failed", err.code)
    end
  end)
end)

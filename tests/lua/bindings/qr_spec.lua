local core = require "peerup.core"

local QUIET = 4

--- Reads half blocks back into rows of modules; true is dark.
local function modules(text)
  local rows = {}
  for line in text:gmatch("([^\n]*)\n") do
    local upper, lower = {}, {}
    for _, code in utf8.codes(line) do
      upper[#upper + 1] = not (code == 0x2588 or code == 0x2580)
      lower[#lower + 1] = not (code == 0x2588 or code == 0x2584)
    end
    rows[#rows + 1] = upper
    rows[#rows + 1] = lower
  end
  return rows
end

describe("core.qr", function()
  it("draws a code with its margin, finders and timing", function()
    local rows = modules(assert(core.qr("peerup")))
    local width = #rows[1]
    local size = width - 2 * QUIET
    assert.equal(21, size)
    assert.is_true(#rows == width or #rows == width + 1)
    local function dark(x, y)
      return rows[y + QUIET + 1][x + QUIET + 1]
    end
    for i = -QUIET, size + QUIET - 1 do
      for edge = 1, QUIET do
        assert.is_false(dark(i, -edge))
        assert.is_false(dark(i, size + edge - 1))
        assert.is_false(dark(-edge, i))
        assert.is_false(dark(size + edge - 1, i))
      end
    end
    for _, corner in ipairs { { 0, 0 }, { size - 7, 0 }, { 0, size - 7 } } do
      for y = 0, 6 do
        for x = 0, 6 do
          local ring = math.max(math.abs(x - 3), math.abs(y - 3))
          assert.equal(ring ~= 2, dark(corner[1] + x, corner[2] + y))
        end
      end
    end
    for i = 8, size - 9 do
      assert.equal(i % 2 == 0, dark(i, 6))
      assert.equal(i % 2 == 0, dark(6, i))
    end
    -- The level is in the first two bits of the format, here under its mask 10: M is 00.
    assert.is_true(dark(0, 8))
    assert.is_false(dark(1, 8))
  end)

  it("grows with the text, up to a limit", function()
    local short = modules(assert(core.qr("x")))
    local long = modules(assert(core.qr(("x"):rep(2000))))
    assert.is_true(#long > #short)
    local code, err = core.qr(("x"):rep(4000))
    assert.is_nil(code)
    assert.equal("limit", err.code)
  end)

  it("refuses what it cannot draw", function()
    local code, err = core.qr("a\0b")
    assert.is_nil(code)
    assert.equal("invalid", err.code)
    assert.is_nil((core.qr("")))
    assert.has_error(function()
      core.qr()
    end)
  end)
end)

--- lua/peerup/line.lua
local line = require "peerup.line"

--- A stream that gives these pieces, then its end or an error.
local function stream(pieces, problem)
  local at = 0
  return { read = function(_, max)
    at = at + 1
    local piece = pieces[at]
    if not piece then return nil, problem end
    assert(#piece <= max, "more was asked for than fits")
    return piece
  end }
end

describe("a line reader", function()
  it("puts pieces together and splits lines", function()
    local r = line.reader(stream { "o", "ne\ntw", "o\n", "\n" }, 16)
    assert.same({ "one", "two", "" }, { r:read(), r:read(), r:read() })
    assert.same({}, { r:read() })
  end)

  it("refuses lines that are too long, without keeping them", function()
    local r = line.reader(stream { ("x"):rep(8), ("x"):rep(8) }, 16)
    local text, problem = r:read()
    assert.is_nil(text)
    assert.equal("protocol_error", problem.code)
    r = line.reader(stream { ("x"):rep(15) .. "\n" }, 16)
    assert.equal(15, #r:read())
  end)

  it("tells an end inside a line from a proper one, and passes errors on", function()
    local _, problem = line.reader(stream { "half" }, 16):read()
    assert.equal("eof", problem.code)
    _, problem = line.reader(stream({}, "broken"), 16):read()
    assert.equal("broken", problem)
  end)
end)

--- The program's entry: runs inside the main task, returns the exit code.
local main = require "peerup.cli.main"
local context = require "peerup.cli.context"

local here = arg[0]:match("^(.*)/[^/]*$") or "."
local dirs = { here .. "/commands" }
local home = os.getenv "HOME"
if home and home ~= "" then dirs[2] = home .. "/.config/peerup/commands" end

return main.run(context.process(), table.pack(...), dirs)

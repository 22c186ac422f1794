--- Prints which program this is.
local function machine()
  local uname = require("luv").os_uname()
  local names = { x86_64 = "amd64", aarch64 = "arm64" }
  return uname.sysname:lower(), names[uname.machine] or uname.machine
end

local function run(ctx, args)
  local core = require "peerup.core"
  local os_name, arch = machine()
  if args.json then
    ctx.out:json(require("peerup.json").object("version", core.version(), "commit", core.commit(),
      "built", core.built(), "lua", _VERSION:match("%S+$"), "os", os_name, "arch", arch))
    return 0
  end
  ctx.out:line("peerup %s (%s) built %s", core.version(), core.commit(), core.built())
  ctx.out:line("%s %s/%s", _VERSION, os_name, arch)
  return 0
end

return {
  name = "version", summary = "print the program's version", no_config = true, run = run,
  options = { { "json", type = "flag", help = "print JSON" } },
}

--- Prints a manual page's source.
local err = require "peerup.err"
local manual = require "peerup.cli.manual"
local nearest = require "peerup.nearest"

local function run(ctx, args)
  local commands = ctx.commands()
  if not args.command then
    ctx.out:write(manual.program(commands, ctx.version))
    return 0
  end
  local names = {}
  for i, command in ipairs(commands) do
    if command.name == args.command then
      ctx.out:write(manual.command(command, ctx.version))
      return 0
    end
    names[i] = command.name
  end
  return nil, err.say("not_found", ('there is no command "%s"%s'):format(args.command,
    nearest.hint(args.command, names, "%s")))
end

return {
  name = "manual", summary = "print the source of a manual page, for man -l -", no_config = true,
  run = run,
  args = { { "command", optional = true, help = "one command's; without: the program's" } },
}

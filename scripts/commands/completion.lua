--- Prints a shell's completion script; those ask `completion words` what fits.
local complete = require "peerup.cli.complete"

local function script(shell)
  return function(ctx)
    ctx.out:write(complete.SCRIPTS[shell])
    return 0
  end
end

local function words(ctx, args)
  for _, pair in ipairs(complete.words(ctx, ctx.commands(), args.word)) do
    ctx.out:line("%s\t%s", pair[1], ((pair[2] or ""):gsub("%c", " ")))
  end
  return 0
end

local function of(shell, how)
  return { name = shell, summary = "completion for " .. shell, no_config = true,
    run = script(shell), epilog = "To have it in each session: " .. how }
end

return {
  name = "completion", summary = "completion of commands, flags and names for shells",
  commands = {
    of("bash", "peerup completion bash > ~/.local/share/bash-completion/completions/peerup"),
    of("zsh", "peerup completion zsh > a file _peerup in a folder of $fpath"),
    of("fish", "peerup completion fish > ~/.config/fish/completions/peerup.fish"),
    { name = "words", summary = "what the last word of a command line can become",
      no_config = true, run = words,
      args = { { "word", many = true, optional = true,
        help = "after --: the line's words after the program's name" } } },
  },
}

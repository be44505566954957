class McpBridge < Formula
  desc "{summary}"
  homepage "{repository}"
  version "{version}"
  license any_of: ["MIT", "Apache-2.0"]

  on_macos do
    url "{url-macos}"
    sha256 "{sha256-macos}"
  end

  on_linux do
    on_intel do
      url "{url-linux-x64}"
      sha256 "{sha256-linux-x64}"
    end
    on_arm do
      url "{url-linux-arm64}"
      sha256 "{sha256-linux-arm64}"
    end
  end

  def install
    bin.install "mcp-bridge", "mcp-calculator"
    man1.install "man/mcp-bridge.1", "man/mcp-calculator.1"
    bash_completion.install "completions/mcp-bridge.bash" => "mcp-bridge"
    bash_completion.install "completions/mcp-calculator.bash" => "mcp-calculator"
    fish_completion.install "completions/mcp-bridge.fish", "completions/mcp-calculator.fish"
    zsh_completion.install "completions/_mcp-bridge", "completions/_mcp-calculator"
  end

  def caveats
    <<~EOS
      The service serves the calculator at http://127.0.0.1:8808/mcp. It has no terminal to show a
      passphrase in; this makes one and shows it:
        mcp-bridge owner reset
    EOS
  end

  service do
    run [opt_bin/"mcp-bridge", "serve"]
    keep_alive crashed: true
    error_log_path var/"log/mcp-bridge.log"
  end

  test do
    assert_equal "mcp-bridge #{version}", shell_output("#{bin}/mcp-bridge --version").strip
    requests = <<~JSON
      {"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"brew","version":"1"}}}
      {"jsonrpc":"2.0","method":"notifications/initialized"}
      {"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"calculator","arguments":{"operation":"add","a":6,"b":7}}}
    JSON
    assert_match '"text":"13"', pipe_output(bin/"mcp-calculator", requests, 0)
  end
end

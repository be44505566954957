# Installs mcp-bridge and mcp-calculator for the user who runs it, on Windows. Needs no administrator.
#
#   irm https://github.com/OWNER/mcp-bridge/releases/latest/download/install.ps1 | iex
#   powershell -ExecutionPolicy Bypass -File install.ps1 [-Version VERSION] [-To FOLDER] [-From URL]
#   powershell -ExecutionPolicy Bypass -File install.ps1 -Uninstall [-To FOLDER]
#
# The archive must have the checksum that SHA256SUMS beside it says, or nothing is installed. That finds what
# was damaged on its way; who has made the release is told by its attestations, which `gh attestation verify`
# checks. Works in Windows PowerShell 5.1 and in PowerShell 7.
#
# All of it is in a block, and the last line runs it: a script that was cut off does nothing.

param(
    # This version instead of the newest.
    [string] $Version = '',
    # Where the programs go.
    [string] $To = '',
    # A folder with SHA256SUMS and the archives; MCP_INSTALL_URL says the same.
    [string] $From = $env:MCP_INSTALL_URL,
    # Remove the programs.
    [switch] $Uninstall
)

$main = {
    # Of this block only: `iex` runs it in the user's own session.
    $ErrorActionPreference = 'Stop'
    # Drawing it takes longer than the download.
    $ProgressPreference = 'SilentlyContinue'

    # As in Cargo.toml.
    $repository = 'https://github.com/OWNER/mcp-bridge'
    $programs = 'mcp-bridge.exe', 'mcp-calculator.exe'

    # The name of this platform in the names of archives.
    function Get-Platform {
        if ($PSVersionTable.PSVersion.Major -ge 6 -and -not $IsWindows) {
            throw 'This is not Windows: use install.sh.'
        }
        # A 32-bit process is told its own kind in the first of the two.
        $machine = $env:PROCESSOR_ARCHITEW6432
        if (-not $machine) { $machine = $env:PROCESSOR_ARCHITECTURE }
        switch ($machine) {
            'AMD64' { return 'windows-x64' }
            'ARM64' { return 'windows-arm64' }
        }
        throw "There is no program for Windows on $machine; build it from the source at $repository."
    }

    function Save-Url([string] $Url, [string] $File) {
        try {
            # Windows PowerShell asks Internet Explorer's engine without the switch.
            Invoke-WebRequest -Uri $Url -OutFile $File -UseBasicParsing -TimeoutSec 900
        } catch {
            throw "Cannot download ${Url}: $($_.Exception.Message) Nothing was installed."
        }
    }

    # The archive for the platform in the list, and its checksum.
    function Select-Archive([string] $List, [string] $Platform) {
        $number = if ($Version) { [regex]::Escape($Version) } else { '[0-9A-Za-z.+-]+?' }
        $pattern = "^([0-9a-f]{64}) [ *](mcp-bridge-$number-$Platform\.zip)$"
        $found = @(Get-Content -LiteralPath $List | Where-Object { $_ -cmatch $pattern })
        if ($found.Count -eq 0) {
            throw "SHA256SUMS at $From names no archive for $Platform with a checksum; nothing was installed."
        }
        if ($found.Count -gt 1) {
            throw "SHA256SUMS at $From names several versions; choose one with -Version."
        }
        $null = $found[0] -cmatch $pattern
        return @{ Name = $Matches[2]; Checksum = $Matches[1] }
    }

    # Windows lets nobody overwrite a program that runs, but rename it.
    function Move-Aside([string] $File) {
        $aside = "$File.$([guid]::NewGuid().ToString('N')).old"
        Move-Item -LiteralPath $File -Destination $aside
        return $aside
    }

    # What runs still is removed the next time.
    function Remove-Old {
        foreach ($program in $programs) {
            Get-ChildItem -LiteralPath $To -Filter "$program.*.old" -File |
                Remove-Item -Force -ErrorAction SilentlyContinue
        }
    }

    function Install-Programs {
        # Spelled so that it stays when the owner is filled in.
        if ($From -like '*/OWN[E]R/*') { throw 'This copy does not know where releases are; say it with -From URL.' }
        if ($From -notmatch '^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])') {
            throw "$From can be changed on its way; use https."
        }
        $platform = Get-Platform
        # Windows PowerShell on older systems would offer TLS 1.0 only.
        [Net.ServicePointManager]::SecurityProtocol =
            [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

        $work = Join-Path ([IO.Path]::GetTempPath()) "mcp-bridge.$([guid]::NewGuid().ToString('N'))"
        $stage = Join-Path $To ".mcp-bridge.$([guid]::NewGuid().ToString('N'))"
        $null = New-Item -ItemType Directory -Path $work
        try {
            $list = Join-Path $work 'SHA256SUMS'
            Save-Url "$From/SHA256SUMS" $list
            $archive = Select-Archive $list $platform
            Write-Host "Downloading $($archive.Name)"
            $file = Join-Path $work 'archive.zip'
            Save-Url "$From/$($archive.Name)" $file
            $actual = (Get-FileHash -LiteralPath $file -Algorithm SHA256).Hash.ToLowerInvariant()
            if ($actual -cne $archive.Checksum) {
                throw "$($archive.Name) has the checksum $actual instead of $($archive.Checksum); it is damaged or " +
                    'forged, and nothing was installed.'
            }
            Expand-Archive -LiteralPath $file -DestinationPath $work

            # In the same folder, so that what is moved is moved whole.
            $null = New-Item -ItemType Directory -Force -Path $stage
            $versions = foreach ($program in $programs) {
                $unpacked = Join-Path (Join-Path $work ($archive.Name -replace '\.zip$', '')) $program
                if (-not (Test-Path -LiteralPath $unpacked -PathType Leaf)) {
                    throw "$($archive.Name) lacks $program; nothing was installed."
                }
                $staged = Join-Path $stage $program
                Move-Item -LiteralPath $unpacked -Destination $staged
                & $staged --version
                if ($LASTEXITCODE -ne 0) { throw "$program does not run here; nothing was installed." }
            }
            foreach ($program in $programs) {
                $installed = Join-Path $To $program
                $aside = if (Test-Path -LiteralPath $installed) { Move-Aside $installed }
                try {
                    Move-Item -LiteralPath (Join-Path $stage $program) -Destination $installed
                } catch {
                    if ($aside) { Move-Item -LiteralPath $aside -Destination $installed }
                    throw
                }
            }
            Remove-Old
        } finally {
            foreach ($folder in $work, $stage) {
                if (Test-Path -LiteralPath $folder) { Remove-Item -LiteralPath $folder -Recurse -Force }
            }
        }

        Write-Host "Installed $($versions -join ' and ') in $To"
        if (($env:Path -split ';').TrimEnd('\') -notcontains $To) {
            Write-Host ''
            Write-Host "$To is not in your PATH. Add it to the variable Path of your user, in the window that this opens:"
            Write-Host '  rundll32 sysdm.cpl,EditEnvironmentVariables'
        } else {
            $first = (Get-Command mcp-bridge -CommandType Application -ErrorAction SilentlyContinue |
                Select-Object -First 1).Source
            if ($first -ne (Join-Path $To 'mcp-bridge.exe')) {
                Write-Host "Another one comes before it in your PATH: $first"
            }
        }
        Write-Host ''
        Write-Host 'Next:'
        Write-Host '  mcp-calculator install --client claude-desktop   the calculator in a desktop client'
        Write-Host '  mcp-bridge serve                                 a server on the network, with a sign-in'
    }

    function Uninstall-Programs {
        $removed = foreach ($program in $programs) {
            $installed = Join-Path $To $program
            if (Test-Path -LiteralPath $installed -PathType Leaf) {
                $null = Move-Aside $installed
                $program
            }
        }
        if (-not $removed) {
            Write-Host "There is nothing to remove in $To"
            return
        }
        Remove-Old
        Write-Host "Removed from ${To}: $($removed -join ' ')"
        Write-Host 'Sign-ins, entries in desktop clients, and the state of a bridge stay where they are: README.md says'
        Write-Host 'how to remove them, before or after.'
    }

    $Version = $Version -replace '^v', ''
    if ($Version -notmatch '^[0-9A-Za-z.+-]*$') { throw "$Version is no version." }
    if (-not $To) { $To = Join-Path $HOME '.local\bin' }
    $To = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($To).TrimEnd('\')
    if (-not $From) {
        $From = if ($Version) { "$repository/releases/download/v$Version" } else { "$repository/releases/latest/download" }
    }
    $From = $From.TrimEnd('/')
    if ($Uninstall) { Uninstall-Programs } else { Install-Programs }
}

& { & $main }

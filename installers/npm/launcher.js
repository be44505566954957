#!/usr/bin/env node
// Starts PROGRAM, which npm has installed with the package for this platform: nothing is downloaded here.
"use strict";

const { spawn } = require("node:child_process");
const { writeSync } = require("node:fs");
const { constants } = require("node:os");

const program = "PROGRAM";
const packages = PACKAGES;

function fail(text) {
  writeSync(2, `${program}: ${text}\n`);
  process.exit(1);
}

const platform = `${process.platform}-${process.arch}`;
const name = packages[platform];
if (name === undefined) {
  fail(`there is no program for ${platform}; it can be built from the source at REPOSITORY`);
}

let path;
try {
  path = require.resolve(`${name}/bin/${program}${process.platform === "win32" ? ".exe" : ""}`);
} catch {
  fail(
    `the package ${name} is missing, which has the program for ${platform}; install again without ` +
      "--omit=optional, and on this platform if node_modules was copied from another",
  );
}

// Whoever started this knows only this process. On Windows the console tells both of them.
const signals = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
for (const signal of signals) {
  process.on(signal, () => {
    if (process.platform !== "win32") {
      child.kill(signal);
    }
  });
}

const child = spawn(path, process.argv.slice(2), { stdio: "inherit" });

// npx starts a shell that starts this, and a signal to npx ends that shell only: then its end has to do.
if (process.env.npm_command === "exec" && process.platform !== "win32") {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid !== parent) {
      clearInterval(watch);
      child.kill("SIGTERM");
    }
  }, 1000);
}
child.on("error", (error) => fail(`cannot start ${path}: ${error.message}`));
child.on("exit", (code, signal) => {
  if (signal === null) {
    process.exit(code);
  }
  // Ends as the program has ended; where a signal does not end this process, with the shell's number for it.
  for (const name of signals) {
    process.removeAllListeners(name);
  }
  process.exitCode = 128 + (constants.signals[signal] ?? 0);
  process.kill(process.pid, signal);
});

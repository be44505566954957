# Stands in for Homebrew: reads a formula with the words of Homebrew that this project uses, installs an archive
# as it says, and runs its test. A word that is not here is an error.
#
#   ruby formula.rb FORMULA resources               prints SYSTEM PROCESSOR URL SHA256, a line each
#   ruby formula.rb FORMULA install ARCHIVE PREFIX  unpacks, installs into PREFIX, and tests
require "fileutils"
require "open3"
require "pathname"
require "tmpdir"

def wrong(text) = abort("formula.rb: #{text}")

class Pathname
  def /(other) = self + other

  # As Homebrew: moves files into this folder, a pair under its second name.
  def install(*files)
    files.flat_map { |file| file.is_a?(Hash) ? file.to_a : [[file, File.basename(file)]] }.each do |from, name|
      wrong("#{from} is not in the archive") unless File.file?(from)
      wrong("#{self / name} is installed twice") if (self / name).exist?
      mkpath
      FileUtils.mv(from, self / name)
    end
  end
end

class String
  def /(other) = Pathname(self) / other
end

# What is said of the service.
class Service
  ATTRIBUTES = {
    run: ->(value) { value.is_a?(Array) && value.all? { |part| [String, Pathname].include?(part.class) } },
    keep_alive: ->(value) { value == true || (value.is_a?(Hash) && (value.keys - [:always, :crashed]).empty?) },
    error_log_path: ->(value) { value.is_a?(Pathname) },
  }.freeze
  attr_reader :said

  def initialize(formula)
    @formula = formula
    @said = {}
  end

  def opt_bin = @formula.opt_bin
  def var = @formula.var

  ATTRIBUTES.each do |name, good|
    define_method(name) do |*values, **options|
      value = options.empty? ? values.first : options
      wrong("service: #{name} #{value.inspect}") unless good.call(value)
      @said[name] = value
    end
  end
end

class Formula
  class << self
    attr_reader :facts, :resources, :service_block, :test_block

    def inherited(formula)
      formula.instance_eval do
        @facts = {}
        @resources = Hash.new { |all, key| all[key] = {} }
        @system = []
      end
      super
      (@formulas ||= []) << formula
    end

    def formulas = @formulas

    %i[desc homepage version license].each do |fact|
      define_method(fact) { |value| @facts[fact] = value }
    end

    %i[url sha256].each do |key|
      define_method(key) do |value|
        wrong("#{key} twice for #{@system}") if @resources[@system.dup].key?(key)
        @resources[@system.dup][key] = value
      end
    end

    %i[on_macos on_linux on_intel on_arm].each do |word|
      define_method(word) do |&block|
        @system.push(word)
        block.call
        @system.pop
      end
    end

    def service(&block) = @service_block = block
    def test(&block) = @test_block = block
  end

  attr_reader :prefix

  def initialize(prefix) = @prefix = Pathname(prefix)
  def version = self.class.facts[:version]
  def bin = prefix / "bin"
  def opt_bin = bin
  def var = prefix / "var"
  def man1 = prefix / "share/man/man1"
  def bash_completion = prefix / "etc/bash_completion.d"
  def fish_completion = prefix / "share/fish/vendor_completions.d"
  def zsh_completion = prefix / "share/zsh/site-functions"

  # What a test may say.
  def shell_output(command)
    output, status = Open3.capture2(command)
    wrong("#{command} failed: #{status}") unless status.success?
    output
  end

  def pipe_output(command, input, code)
    output, status = Open3.capture2(command.to_s, stdin_data: input)
    wrong("#{command} ended with #{status}") unless status.exitstatus == code
    output
  end

  def assert_equal(expected, actual)
    wrong("the test wants #{expected.inspect}, not #{actual.inspect}") unless expected == actual
  end

  def assert_match(expected, actual)
    wrong("the test wants #{expected.inspect} in #{actual.inspect}") unless actual.include?(expected)
  end
end

path, task, archive, prefix = ARGV
load path
formula = Formula.formulas.first
facts = formula.facts
wrong("facts are missing: #{facts}") unless facts.values_at(:desc, :homepage, :version, :license).all?
# As `brew audit` wants it.
wrong("desc: #{facts[:desc]}") if facts[:desc].length > 80 || facts[:desc].match?(/\A(an?|the) |\.\z|\bmcp-bridge\b/i)

case task
when "resources"
  formula.resources.each do |system, resource|
    systems = system == [:on_macos] ? %w[on_intel on_arm].map { |cpu| ["on_macos", cpu] } : [system]
    systems.each { |one| puts [*one, resource.fetch(:url), resource.fetch(:sha256)].join(" ") }
  end
when "install"
  Dir.mktmpdir do |folder|
    system("tar", "-xzf", File.expand_path(archive), "-C", folder) || wrong("cannot unpack #{archive}")
    tops = Dir.children(folder)
    wrong("Homebrew enters a folder that is alone: #{tops}") unless tops.length == 1
    installed = formula.new(File.expand_path(prefix))
    Dir.chdir(File.join(folder, tops.first)) { installed.install }
    service = Service.new(installed)
    service.instance_eval(&formula.service_block)
    wrong("the service starts #{service.said[:run]}") unless File.executable?(service.said.fetch(:run).first)
    wrong("the caveats say nothing") if installed.caveats.strip.empty?
    Dir.chdir(folder) { installed.instance_eval(&formula.test_block) }
  end
else
  wrong("unknown task #{task}")
end

// What the page's JavaScript is held to beside its types (tsconfig.json); without imports, so that it needs eslint alone.
const rules = [
  "constructor-super", "eqeqeq", "for-direction", "getter-return", "no-async-promise-executor", "no-class-assign", "no-compare-neg-zero", "no-cond-assign",
  "no-const-assign", "no-constant-condition", "no-constructor-return", "no-control-regex", "no-debugger", "no-dupe-args", "no-dupe-class-members", "no-dupe-else-if",
  "no-dupe-keys", "no-duplicate-case", "no-duplicate-imports", "no-empty", "no-empty-pattern", "no-eval", "no-ex-assign", "no-fallthrough", "no-func-assign", "no-global-assign",
  "no-implied-eval", "no-import-assign", "no-inner-declarations", "no-invalid-regexp", "no-loss-of-precision", "no-prototype-builtins",
  "no-redeclare", "no-self-assign", "no-self-compare", "no-setter-return", "no-shadow-restricted-names", "no-sparse-arrays", "no-this-before-super", "no-throw-literal",
  "no-unreachable", "no-unsafe-finally", "no-unsafe-negation", "no-unsafe-optional-chaining", "no-useless-catch", "no-useless-escape", "no-useless-rename", "no-var",
  "require-yield", "use-isnan", "valid-typeof",
];

export default [{
  files: ["rtface_studio/page/**/*.js"],
  linterOptions: { reportUnusedDisableDirectives: true },
  rules: {
    ...Object.fromEntries(rules.map((name) => [name, "error"])),
    "prefer-const": ["error", { destructuring: "all" }],
    "no-unused-vars": ["error", { ignoreRestSiblings: true, varsIgnorePattern: "^_" }],
  },
}];

import { defineConfig } from "vite";

// Names without hashes: the engine serves each file under one name, with an ETag.
export default defineConfig({
    base: "/console/",
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
    build: {
        target: "es2022",
        outDir: "dist",
        assetsInlineLimit: 0,
        cssCodeSplit: false,
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
        rollupOptions: {
            output: {
                entryFileNames: "console.js",
                assetFileNames: (asset) => (asset.names.some((name) => name.endsWith(".css")) ? "console.css" : "[name][extname]"),
                codeSplitting: false,
            },
        },
    },
    test: { environment: "node", testTimeout: 120_000, include: ["test/**/*.test.ts"] },
} as never);

#!/bin/sh

echo "Hello, $(cat /file)!"

"""What a bundle is made of: functions, directories, requirements and schemas, as bytes.

==================  =============================================================================
`callables.py`      functions, with the user's own code that they use
`interface.py`      what functions take and return; `decorators.py`: what decorators supply of that
`zips.py`           directories; functions that are named in them
`requirements.py`   requirements files
`documents.py`      schemas and app_config
`pickles.py`        functions and what belongs to them, as pickles
`pickler.py`        pickles functions: by name what workers can import, by value the rest
`definitions.py`    classes and functions that pickles made in workers may name
`registrations.py`  what scripts have put into modules; `changed_values.py`: values that are changed there;
                    `set_attributes.py`: what scripts set there by name, as `script_texts.py` reads it and
                    `spots.py` finds it; `set_by_calls.py`: what functions have set that scripts call
`source_texts.py`   the sources of code that goes along, for tracebacks
`code_objects.py`   what is in code objects; `class_names.py`: names for classes of scripts
`own_code.py`       the user's own modules that functions use; `local_packages.py`: editable installs;
                    `unpacked_zips.py`: modules in zips
`code_files.py`     the files of those modules and of folders; `folders.py`, `bytecode.py`
`unpicklable.py`    finds what can't be pickled; `large_values.py`: what makes a bundle large
==================  =============================================================================
"""
